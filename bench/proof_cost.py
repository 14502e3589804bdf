"""Processor time that the proof of packet indices takes when videos are encoded.

Every video is encoded and checked in this process, as a worker of `tb shard` does it, with the
proof and without it. Rounds alternate. The figures are medians of the rounds, and the share is the
median of the shares of the rounds.

    python -m bench.proof_cost --videos FOLDER [--recipe h264] [--rounds 5] [--json FILE]
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

from bench.arguments import count, new_file, run_command, write_report
from shards.encode.check_stored import check_stored
from shards.encode.codecs import CODECS
from shards.encode.encoded import TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.errors import InputError
from shards.sources.folder import from_folder
from tb.version import version_text

_WITHOUT = partial(check_stored, is_indexed=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the figures, and writes them with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder of class folders")
    encoders = [name for name, codec in CODECS.items() if not codec.keeps_files]
    parser.add_argument("--recipe", choices=encoders, default="h264")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args(arguments)
    dataset = from_folder(options.videos, min_per_class=1)
    recipe = Recipe(codec=options.recipe)
    paths = [source.path for source in dataset.sources if _is_usable(source.path, recipe)]
    if not paths:
        raise InputError(f"{options.videos}: no video can be encoded; give a folder of other ones")
    with_s, without_s = [], []
    for _ in range(options.rounds):
        with_s.append(_encode(paths, recipe))
        with patch("shards.encode.encode_parts.check_stored", _WITHOUT):
            without_s.append(_encode(paths, recipe))
    shares = [1 - few / many for many, few in zip(with_s, without_s, strict=True)]
    report = {
        "timebalance": version_text(),
        "videos": len(paths),
        "recipe": options.recipe,
        "with_s": statistics.median(with_s),
        "without_s": statistics.median(without_s),
        "share": statistics.median(shares),
        "rounds": {"with_s": with_s, "without_s": without_s},
    }
    print(
        f"{len(paths)} videos: {report['with_s']:.2f} s of processor time with the proof,"
        f" {report['without_s']:.2f} s without it; its share is {report['share']:.3f}"
    )
    write_report(options.json, report)


def _is_usable(path: Path, recipe: Recipe) -> bool:
    try:
        transcode(path, recipe)
    except TranscodeError as error:
        print(f"left out: {error}")
        return False
    return True


def _encode(paths: Sequence[Path], recipe: Recipe) -> float:
    """Seconds of processor time to encode and check the videos."""
    began_s = time.process_time()
    for path in paths:
        transcode(path, recipe)
    return time.process_time() - began_s


if __name__ == "__main__":
    run_command(main)
