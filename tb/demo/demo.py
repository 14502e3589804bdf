"""`tb demo`: made-up videos, then the same steps as for real ones.

It writes OUT/demo.json (which demo this is), OUT/videos (real H.264 files; `tb.demo.videos`
describes the classes), OUT/shards, OUT/work, report.html and result.json. `tb shard folder` and
`tb train all --preset demo` do the same with the videos of size "small"; the other sizes change a
few settings.
"""

import json
import time
from pathlib import Path

from shards.cpus import num_cpus
from shards.errors import InputError
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.differences import Tree
from tb.config.load_config import work_config
from tb.demo.videos import SIZES, write_demo_videos
from tb.demo.worlds import WORLDS
from tb.named_paths import make_named_folder
from tb.progress import ProgressBar
from tb.reports.report import REPORT, RESULT, write_report
from tb.workflow.run import run_all

PRESET = "demo"


def run_demo(out: Path, *, size: str, seed: int, world: str) -> Tree:
    """Runs the demo, or goes on with one that was interrupted.

    Returns:
        The content of OUT/result.json.

    Raises:
        InputError: The size or world is unknown, or OUT holds another demo.
    """
    started_s = time.monotonic()
    manifest, work = demo_shards(out, size=size, seed=seed, world=world), out / "work"
    config = work_config(work, PRESET, [f"machine.seed={seed}", *_SIZE_SETTINGS[size]])
    run_all(manifest, config, work, jobs=num_cpus())
    write_report(manifest, config, work, seconds=time.monotonic() - started_s)
    for name in (REPORT, RESULT):
        publish_bytes(out / name, (work / name).read_bytes())
    result: Tree = json.loads((out / RESULT).read_text())
    return result


def demo_shards(out: Path, *, size: str, seed: int, world: str = "objects") -> Manifest:
    """The data set in OUT/videos and OUT/shards, made where it is missing.

    Raises:
        InputError: The size or world is unknown, or OUT holds another demo.
    """
    if size not in SIZES:
        raise InputError(f"size (--size) is {size!r}: choose one of {', '.join(SIZES)}")
    if world not in WORLDS:
        raise InputError(f"world (--world) is {world!r}: choose one of {', '.join(WORLDS)}")
    _claim(out, {"size": size, "seed": seed, "world": world})
    counts = SIZES[size]
    with ProgressBar("videos", counts.num_videos) as bar:
        write_demo_videos(
            out / "videos",
            size=counts,
            seed=seed,
            progress=lambda done, _: bar.update(done),
            world=WORLDS[world],
        )
    dataset = from_folder(out / "videos")
    with ProgressBar("shard", counts.num_videos) as bar:
        ingest(dataset, out / "shards", progress=lambda done, _, key: bar.update(done, key))
    return read_manifest(out / "shards")


# The medium size has three times as many training videos, and takes three times as many steps.
_SIZE_SETTINGS = {
    "tiny": [
        "labels.percent=50",
        "pretrain.optim.steps=6",
        "finetune.optim.steps=12",
        "student.optim.steps=12",
        "machine.checkpoint_steps=4",
    ],
    "small": [],
    "medium": [
        "pretrain.optim.steps=3600",
        "finetune.optim.steps=1800",
        "student.optim.steps=1800",
    ],
}


def _claim(out: Path, claim: dict[str, str | int]) -> None:
    """Writes what the demo is to OUT/demo.json; refuses a folder with another demo."""
    path = out / "demo.json"
    make_named_folder(out, "out")
    try:
        before = None
        if path.exists():
            before = dict(json.loads(path.read_text()))
            before.setdefault("world", "objects")
        if before is None:
            if any(not file.name.startswith(path.name) for file in out.iterdir()):
                raise InputError(f"{out}: holds something else; choose another --out")
            publish_bytes(path, json.dumps(claim).encode())
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{out}: not usable ({error}); choose another --out") from None
    if before not in (None, claim):
        holds = ", ".join(f"{name} {value}" for name, value in before.items())
        raise InputError(f"{out}: holds a demo with {holds}; choose another --out, or delete it")
