"""`tb data ...`: shows and checks finished shards, and finds the recipe that suits raw videos.

What each command needs is imported inside it, because `tb --help` must not wait for Arrow.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.counted import counted
from shards.errors import printable
from tb import api
from tb.cli.advise import advise_app
from tb.cli.choices import SplitOption
from tb.cli.group import Group
from tb.cli.next_command import say_next
from tb.cli.options import ShardsDir
from tb.cli.printing import few, progress_bar, result_console, size_text, split_texts

if TYPE_CHECKING:
    from rich.table import Table

    from shards.summary import Spread, Summary

data_app = Group(help="Look at shards, and choose how to store them.")
data_app.add_typer(advise_app, name="advise")


@data_app.command()
def info(
    root: ShardsDir,
) -> None:
    """Print the classes, splits, durations, sizes, bytes and codecs of a data set."""
    from shards.summary import summarize

    summary = summarize(root)
    console = result_console()
    console.print(_overview(summary))
    console.print(_class_table(summary))
    _say_views(root)


@data_app.command()
def verify(
    root: ShardsDir,
    decode: Annotated[bool, typer.Option("--decode", help="Also decode every frame.")] = False,
) -> None:
    """Compare every byte with the manifest; exit code 1 if there is a problem."""
    from shards import verification
    from shards.format.manifest import read_manifest

    num_videos = len(read_manifest(root))
    with progress_bar("verify") as progress:
        problems = verification.verify(root, decode=decode, progress=progress)
    for problem in problems:
        typer.echo(printable(problem))
    if problems:
        typer.echo(f"{counted(len(problems), 'problem')} in {root}", err=True)
        raise typer.Exit(1)
    how = "decoded and compared" if decode else "compared"
    typer.echo(f"{root}: {counted(num_videos, 'video')} {how}, no problems")
    _say_views(root)


@data_app.command()
def ls(
    root: ShardsDir,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only videos of this class.")
    ] = None,
    split: Annotated[
        SplitOption | None, typer.Option(help="Only this split; pool: all but val and test.")
    ] = None,
    split_number: Annotated[int, typer.Option(help="Which official split.", min=1)] = 1,
) -> None:
    """Print a line for each video, with tabs between the columns.

    The columns are key, class, splits, frames, frames per second, size, bytes and shard.
    """
    from shards.format.manifest import read_manifest

    manifest = read_manifest(root)
    videos = list(manifest.select(class_name=class_name, split=split, split_number=split_number))
    for video in videos:
        fields = (
            video.key,
            manifest.classes[video.label],
            ",".join(split or "-" for split in video.splits),
            video.num_frames,
            f"{float(video.fps):g}",
            f"{video.width}x{video.height}",
            video.size,
            video.shard,
        )
        typer.echo("\t".join(printable(str(field)) for field in fields))
    if videos:
        say_next("data", "show", root, videos[0].key)
    else:
        say_next("data", "info", root)


@data_app.command()
def show(
    root: ShardsDir,
    key: Annotated[str, typer.Argument(help="The key of a video, as `tb data ls` prints it.")],
    png: Annotated[
        Path | None, typer.Option(help="A picture to write: some of its frames.")
    ] = None,
    num_tiles: Annotated[
        int | None, typer.Option(help="How many frames of --png to draw. Default: 16.", min=1)
    ] = None,
) -> None:
    """Print everything that the manifest knows of one video."""
    from shards.errors import InputError
    from shards.format.manifest import read_manifest
    from shards.format.splits import SplitName

    if num_tiles is not None and png is None:
        raise InputError(f"--num-tiles is {num_tiles}, and nothing is drawn: give --png too")
    manifest = read_manifest(root)
    video = manifest.video(manifest.row_of(key))
    fields = video.to_row()
    del fields["fps_num"], fields["fps_den"]
    fields["fps"] = video.fps
    fields["class"] = manifest.classes[video.label]
    fields["splits"] = ", ".join(SplitName(split).text for split in video.splits)
    for name, value in fields.items():
        typer.echo(f"{name:<13} {printable(str(value))}")
    if png:
        api.draw_frames(root, key, png, num_frames=num_tiles)
        typer.echo(f"{'sheet':<13} {png}")
    _say_views(root)


def _say_views(root: str) -> None:
    say_next("views", "--shards", root, "--out", "views.png")


def _overview(summary: "Summary") -> "Table":
    from rich.table import Table

    table = Table(title=printable(summary.name), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # or the digest would be cut off
    lost = f"{summary.num_skipped} skipped"
    if summary.num_missing:
        lost += f", {summary.num_missing} missing"
    empty = summary.empty_classes
    lost_classes = f" ({len(empty)} without a video: {printable(few(empty))})" if empty else ""
    frames, seconds = summary.frames, summary.seconds
    rows = {
        "videos": f"{summary.num_videos} ({lost})",
        "classes": f"{len(summary.classes)}{lost_classes}",
        **{f"split {number}": text for number, text in split_texts(summary)},
        "frames": f"{frames.total} ({_spread_text(frames)} per video)",
        "duration": f"{seconds.total / 3600:.2f} h ({_spread_text(seconds, '.1f')} s per video)",
        "frame rate": f"{few([f'{rate:g}' for rate in summary.rates])} fps",
        "size": few([f"{width}x{height}" for width, height in summary.sizes]),
        "codec": ", ".join(summary.codecs),
        "pixels": ", ".join(summary.pixels),
        "bytes": f"{size_text(summary.num_bytes)} in {counted(summary.num_shards, 'shard')}",
        "packet index": f"{summary.num_videos - summary.num_unindexed} of"
        f" {counted(summary.num_videos, 'video')}",
        "digest": summary.digest,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _class_table(summary: "Summary") -> "Table":
    from rich.table import Table

    table = Table("label", "class", "videos", "frames", "median s")
    for one in summary.classes:
        median = "-" if one.median_s is None else f"{one.median_s:.1f}"
        counts = (str(one.num_videos), str(one.num_frames))
        table.add_row(str(one.label), printable(one.name), *counts, median)
    return table


def _spread_text(spread: "Spread", form: str = "g") -> str:
    return f"{spread.least:{form}} to {spread.greatest:{form}}, median {spread.median:{form}}"
