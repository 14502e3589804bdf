"""What windows cost in bytes: fetched over shown, for several lengths of the groups of pictures.

Each video is stored with each recipe, at its default quality, and plans are drawn for it as in
training. A window is the groups of pictures that hold a sample's frames. So it has more bytes than
the frames from the first to the last one that the sample shows. PSNR is over Y, U and V, against
the frames that the encoder got. Nothing is timed: the figures are the same on every machine that
has the same versions of the libraries.

    python -m bench.window_bytes --videos FOLDER [FOLDER ...] [--num-clips 120] [--epochs 10]
        [--views student pretrain] [--json FILE]

FOLDER holds class folders. Each FOLDER gives the same number of videos, from all of its parts.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np

from bench.arguments import count, new_file, run_command, write_report
from bench.storage_formats import loss
from loaders.plan.draw import draw_plan
from loaders.plan.stage_views import NAMED_VIEWS, view_spec
from shards.encode.check_stored import find_packets
from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.errors import InputError
from shards.format.packets import Packets
from shards.sources.folder import from_folder
from tb.advice.sample import draw_sample
from tb.tables.markdown import table_lines
from tb.version import version_text

_DEFAULT = Recipe()
RECIPES = [*(replace(_DEFAULT, gop=gop) for gop in (16, 12, 8, 6, 4)), Recipe(codec="mjpeg")]
_SIZE_PX = 112  # any size gives the same frame numbers


@dataclass(frozen=True, kw_only=True)
class WindowBytes:
    """What windows are made of, in bytes.

    Attributes:
        before: From the keyframe to the first frame.
        shown: From the first to the last frame that a sample has.
        after: From the last frame to the end of its group of pictures.
    """

    before: int
    shown: int
    after: int

    @property
    def fetched(self) -> int:
        """All bytes."""
        return self.before + self.shown + self.after

    @property
    def fetched_over_shown(self) -> float:
        """All bytes over those that are shown."""
        return self.fetched / self.shown


def window_bytes(windows: Iterable[tuple[Packets, int, int]]) -> WindowBytes:
    """The bytes of windows, each given by its video's packets and its first and last frame."""
    before = shown = after = 0
    for packets, first, last in windows:
        run = packets.byte_range(first, last)
        begin = packets.first_byte + int(packets.sizes[:first].sum())
        end = begin + int(packets.sizes[first : last + 1].sum())
        before += begin - run.begin
        shown += end - begin
        after += run.begin + run.offsets[-1] - end
    return WindowBytes(before=before, shown=shown, after=after)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A video as a recipe stores it."""

    encoded: Encoded
    packets: Packets
    psnr_db: float


@dataclass(frozen=True, kw_only=True)
class RecipeCosts:
    """What a recipe costs; the dicts have a value for each kind of views."""

    codec: str
    gop: int | None
    bytes_per_video: float
    psnr_db: float
    bytes_per_window: dict[str, float]
    fetched_over_shown: dict[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--num-clips", type=count, default=120)
    parser.add_argument("--epochs", type=count, default=10, help="each draws its own windows")
    parser.add_argument("--views", nargs="+", choices=NAMED_VIEWS, default=["student", "pretrain"])
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args(arguments)
    clips = list(_clips(_paths(options.videos, options.num_clips)))
    if not clips:
        raise InputError(f"{options.videos[0]}: no video can be stored; give others")
    found = [
        _costs(recipe, [clip[number] for clip in clips], options.views, options.epochs)
        for number, recipe in enumerate(RECIPES)
    ]
    print(_table(found))
    settings = {"clips": len(clips), "epochs": options.epochs, "timebalance": version_text()}
    recipes = [asdict(one) for one in found]
    write_report(options.json, {"settings": settings, "recipes": recipes})


def _paths(roots: list[Path], num_clips: int) -> list[Path]:
    share = max(1, num_clips // len(roots))
    samples = [draw_sample(from_folder(root, min_per_class=1), share) for root in roots]
    return [source.path for sample in samples for source in sample.dataset.sources]


def _clips(paths: list[Path]) -> Iterator[list[Stored]]:
    """Yields what each recipe makes of a video; leaves out videos that cannot be stored."""
    for number, path in enumerate(paths):
        print(f"{number + 1} of {len(paths)}: {path}", file=sys.stderr)
        try:
            yield [_stored(path, recipe) for recipe in RECIPES]
        except TranscodeError as error:
            print(f"left out: {error}", file=sys.stderr)


def _stored(path: Path, recipe: Recipe) -> Stored:
    encoded = transcode(path, recipe)
    packets = find_packets(encoded.data)
    if packets is None:
        raise InputError(f"{path}: gets no packet index with {recipe.codec}; leave it out")
    return Stored(encoded=encoded, packets=packets, psnr_db=loss(path, recipe, encoded)[0])


def _costs(recipe: Recipe, clips: list[Stored], views: list[str], num_epochs: int) -> RecipeCosts:
    found = {name: window_bytes(_windows(clips, name, num_epochs)) for name in views}
    num_windows = len(clips) * num_epochs
    return RecipeCosts(
        codec=recipe.codec,
        gop=recipe.gop,
        bytes_per_video=mean(len(clip.encoded.data) for clip in clips),
        psnr_db=mean(clip.psnr_db for clip in clips),
        bytes_per_window={name: one.fetched / num_windows for name, one in found.items()},
        fetched_over_shown={name: one.fetched_over_shown for name, one in found.items()},
    )


def _windows(clips: list[Stored], views: str, num_epochs: int) -> list[tuple[Packets, int, int]]:
    """The windows that the views of some epochs show."""
    videos = [clip.encoded for clip in clips]
    rows = np.tile(np.arange(len(videos)), num_epochs)
    plan = draw_plan(
        view_spec(views, _SIZE_PX),
        rows=rows,
        epochs=np.repeat(np.arange(num_epochs), len(videos)),
        num_frames=np.array([video.num_frames for video in videos])[rows],
        heights=np.array([video.height for video in videos])[rows],
        widths=np.array([video.width for video in videos])[rows],
        seed=0,
    )
    return [
        (clips[row].packets, int(frames.min()), int(frames.max()))
        for row, frames in zip(plan.rows, plan.frames, strict=True)
    ]


def _table(found: list[RecipeCosts]) -> str:
    """The figures in Markdown, as docs/sharding.md has them."""
    views = list(found[0].fetched_over_shown)
    titles = ["recipe", "GOP", "kB/video", "PSNR dB"]
    for name in views:
        titles += [f"`{name}` kB/window", "fetched / shown"]
    rows = []
    for one in found:
        kilobytes = f"{one.bytes_per_video / 1000:.0f}"
        line = [one.codec, str(one.gop or 1), kilobytes, f"{one.psnr_db:.1f}"]
        for name in views:
            ratio = f"{one.fetched_over_shown[name]:.2f}"
            line += [f"{one.bytes_per_window[name] / 1000:.0f}", ratio]
        rows.append(line)
    return "\n".join(table_lines(titles, rows))


if __name__ == "__main__":
    run_command(main)
