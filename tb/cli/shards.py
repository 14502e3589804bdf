"""`tb shards ...`: a look at finished shards.

What each command needs is imported inside it, because `tb --help` must not wait for Arrow.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from shards.format.dataset_json import DatasetJson
    from shards.format.manifest import Manifest

shards_app = typer.Typer(no_args_is_help=True, help="Look at finished shards.")

Root = Annotated[str, typer.Argument(metavar="DIR", help="Finished shards: a folder or a URL.")]

_MIB = 1 << 20
# Rich takes 80 for a pipe, which would break a digest into two lines.
_PIPE_WIDTH = 120


@shards_app.command()
def info(
    root: Root,
) -> None:
    """Classes, splits, durations, sizes, bytes and codecs."""
    from shards.format.dataset_json import read_dataset_json
    from shards.format.manifest import read_manifest

    manifest = read_manifest(root)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    console.print(_overview(manifest, read_dataset_json(root)))
    console.print(_class_table(manifest))


@shards_app.command()
def verify(
    root: Root,
    decode: Annotated[bool, typer.Option("--decode", help="Also decode every frame.")] = False,
) -> None:
    """Compare every byte with the manifest; exit code 1 if there is a problem."""
    from shards import verification
    from shards.format.manifest import read_manifest

    num_videos = len(read_manifest(root))
    with progress_bar("verify") as progress:
        problems = verification.verify(root, decode=decode, progress=progress)
    for problem in problems:
        typer.echo(problem)
    if problems:
        typer.echo(f"{len(problems)} problems in {root}", err=True)
        raise typer.Exit(1)
    how = "decoded and compared" if decode else "compared"
    typer.echo(f"{root}: all {num_videos} videos {how}, no problems")


@shards_app.command()
def ls(
    root: Root,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only videos of this class.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only this split: train, val, test or pool.")
    ] = None,
    split_number: Annotated[int, typer.Option(help="Which official split, from 1.")] = 1,
) -> None:
    """One line per video: key, class, splits, frames, fps, size, bytes, shard (by tabs)."""
    from shards.errors import InputError
    from shards.format.manifest import read_manifest

    manifest = read_manifest(root)
    if class_name is not None and class_name not in manifest.classes:
        raise InputError(f"{root}: no class {class_name!r}; see `tb shards info {root}`")
    table = manifest.table
    if split is not None:
        table = table.take(manifest.indices(split, split_number))
    for video in table.to_pylist():
        name = manifest.classes[video["label"]]
        if class_name in (None, name):
            splits = ",".join(split or "-" for split in video["splits"])
            fps = f"{video['fps_num'] / video['fps_den']:g}"
            size = f"{video['width']}x{video['height']}"
            fields = (video["key"], name, splits, video["num_frames"], fps, size)
            typer.echo("\t".join(map(str, (*fields, video["size"], video["shard"]))))


@shards_app.command()
def show(
    root: Root,
    key: Annotated[str, typer.Argument(help="The key of a video, as `tb shards ls` prints it.")],
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Draw some of its frames into this PNG file.")
    ] = None,
    num_tiles: Annotated[int, typer.Option(help="How many frames to draw.", min=1)] = 16,
) -> None:
    """Everything that the manifest knows of one video."""
    from difflib import get_close_matches

    from shards.errors import InputError
    from shards.format.manifest import read_manifest

    manifest = read_manifest(root)
    if key not in manifest.keys:
        close = get_close_matches(key, manifest.keys, n=1)
        hint = f"did you mean {close[0]}?" if close else f"see `tb shards ls {root}`"
        raise InputError(f"{root}: no video {key!r}; {hint}")
    row = manifest.keys.index(key)
    video = manifest.video(row)
    fields = video.to_row()
    del fields["fps_num"], fields["fps_den"]
    fields["fps"] = video.fps
    fields["class"] = manifest.classes[video.label]
    fields["splits"] = ", ".join(split or "unused" for split in video.splits)
    for name, value in fields.items():
        typer.echo(f"{name:<13} {value}")
    if contact_sheet:
        _draw_contact_sheet(manifest, row, contact_sheet, num_tiles)


def _draw_contact_sheet(manifest: "Manifest", row: int, path: Path, num_tiles: int) -> None:
    import io

    from shards.errors import InputError
    from shards.files.publish import publish_bytes
    from shards.reader import ShardReader
    from tb.reports.frame_sheet import frame_sheet

    with ShardReader(manifest) as reader:
        sheet = frame_sheet(reader.read(row), int(manifest.num_frames[row]), num_tiles)
    png = io.BytesIO()
    sheet.save(png, format="PNG")
    try:
        publish_bytes(path, png.getvalue())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; choose another file") from error
    typer.echo(f"{'sheet':<13} {path}")


def split_counts(manifest: "Manifest") -> list[tuple[int, dict[str, int]]]:
    """(split number, {"train": number of videos, ...}) for each split, without empty ones."""
    result = []
    for number in range(1, manifest.num_split_numbers + 1):
        counts = {
            name or "unused": len(manifest.indices(name, number))
            for name in ("train", "val", "test", "")
        }
        result.append((number, {name: n for name, n in counts.items() if n}))
    return result


def empty_classes(manifest: "Manifest") -> list[str]:
    """Classes that have a label but no video."""
    present = set(manifest.labels.tolist())
    return [name for label, name in enumerate(manifest.classes) if label not in present]


def size_text(num_bytes: int) -> str:
    """A number of bytes, for people."""
    return (
        f"{num_bytes / _MIB:.1f} MiB" if num_bytes < 1 << 30 else f"{num_bytes / (1 << 30):.2f} GiB"
    )


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yields a function for (done, total, key) that shows the progress on standard error."""
    from tb.progress import ProgressBar

    with ExitStack() as stack:
        bars: list[ProgressBar] = []

        def progress(num_done: int, total: int, key: str) -> None:
            if not bars:
                bars.append(stack.enter_context(ProgressBar(title, total)))
            bars[0].update(num_done, key)

        yield progress


def _overview(manifest: "Manifest", about: "DatasetJson") -> "Table":
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(manifest.name), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # or the digest would be cut off
    seconds = manifest.num_frames / manifest.fps
    sizes = np.unique(np.stack([manifest.widths, manifest.heights], axis=1), axis=0)
    rates = np.unique(np.round(manifest.fps, 2))
    lost = f"{about.num_skipped} skipped"
    if about.num_missing:
        lost += f", {about.num_missing} missing"
    empty = empty_classes(manifest)
    lost_classes = escape(f" ({len(empty)} without a video: {few(empty)})") if empty else ""
    rows = {
        "videos": f"{len(manifest)} ({lost})",
        "classes": f"{len(manifest.classes)}{lost_classes}",
    }
    for number, counts in split_counts(manifest):
        rows[f"split {number}"] = ", ".join(f"{n} {name}" for name, n in counts.items())
    rows |= {
        "frames": f"{manifest.num_frames.sum()} ({_spread(manifest.num_frames)} per video)",
        "duration": f"{seconds.sum() / 3600:.2f} h ({_spread(seconds, '.1f')} s per video)",
        "frame rate": f"{few([f'{rate:g}' for rate in rates])} fps",
        "size": few([f"{width}x{height}" for width, height in sizes]),
        "codec": ", ".join(sorted(set(manifest.codecs))),
        "pixels": ", ".join(sorted(set(_pixel_kinds(manifest)))),
        "bytes": f"{size_text(int(manifest.sizes.sum()))} in {len(manifest.shard_names)} shards",
        "digest": manifest.digest,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _pixel_kinds(manifest: "Manifest") -> Iterator[str]:
    columns = (manifest.pixel_formats, manifest.color_matrices, manifest.color_ranges)
    for pixel_format, matrix, color_range in zip(*columns, strict=True):
        yield f"{pixel_format} {matrix} {color_range}"


def _class_table(manifest: "Manifest") -> "Table":
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    table = Table("label", "class", "videos", "frames", "median s")
    seconds = manifest.num_frames / manifest.fps
    for label, name in enumerate(manifest.classes):
        rows = np.flatnonzero(manifest.labels == label)
        median = f"{np.median(seconds[rows]):.1f}" if len(rows) else "-"
        num_frames = manifest.num_frames[rows].sum()
        table.add_row(str(label), escape(name), str(len(rows)), str(num_frames), median)
    return table


def _spread(values: "np.ndarray", form: str = "g") -> str:
    import numpy as np

    low, middle, high = np.percentile(np.asarray(values), [0, 50, 100])
    return f"{low:{form}} to {high:{form}}, median {middle:{form}}"


def few(names: list[str], limit: int = 6) -> str:
    """The names, or the first ones and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
