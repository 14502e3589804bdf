"""`tb shard ...` makes shards, `tb shards ...` looks at them.

What each command needs is imported inside it: `tb --help` must not wait for PyAV and Arrow.
Results go to standard output, progress and complaints to standard error.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from shards.datasets import Dataset
    from shards.ingest import IngestReport
    from shards.manifest import Manifest

shard_app = typer.Typer(
    no_args_is_help=True, help="Turn raw videos into verified, train-ready shards."
)
shards_app = typer.Typer(no_args_is_help=True, help="Look at finished shards.")

_NUM_REASONS_SHOWN = 5
_MIB = 1 << 20
# Rich takes 80 for a pipe, which breaks a digest in two.
_PIPE_WIDTH = 120

Out = Annotated[Path, typer.Option(help="Folder for the shards; made if missing.")]
Root = Annotated[Path, typer.Option(help="Folder that holds the class folders.")]
Seed = Annotated[int, typer.Option(help="Of the order in the shards and of random splits.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes that encode. Default: one per CPU.", min=1)
]
ShortSide = Annotated[
    int, typer.Option(help="Upper bound of the shorter side, px, a multiple of 16.")
]
RecipeName = Annotated[str, typer.Option("--recipe", help="h264, or copy (files as they are).")]
MaxSeconds = Annotated[float | None, typer.Option(help="Cut longer videos (h264 only).")]
ShardMb = Annotated[int, typer.Option(help="Size of a shard, MiB.", min=1)]
MinPerClass = Annotated[int, typer.Option(help="Refuse classes with fewer videos.", min=1)]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad video.")]


@shard_app.command()
def folder(
    root: Root,
    out: Out,
    test_percent: Annotated[
        float, typer.Option(help="Share of each class that becomes the test split.")
    ] = 0.0,
    seed: Seed = 0,
    workers: Workers = None,
    short_side: ShortSide = 256,
    recipe: RecipeName = "h264",
    max_seconds: MaxSeconds = None,
    shard_mb: ShardMb = 128,
    min_per_class: MinPerClass = 2,
    strict: Strict = False,
) -> None:
    """Class folders, optionally below train/, val/, test/ folders."""
    from shards import datasets

    dataset = datasets.folder(
        root, test_percent=test_percent, seed=seed, min_per_class=min_per_class
    )
    _ingest(
        dataset,
        out,
        seed=seed,
        workers=workers,
        short_side=short_side,
        recipe=recipe,
        max_seconds=max_seconds,
        shard_mb=shard_mb,
        strict=strict,
    )


@shard_app.command()
def csv(
    csv: Annotated[
        Path, typer.Option(help="Table with columns path,label and optional split,group.")
    ],
    out: Out,
    seed: Seed = 0,
    workers: Workers = None,
    short_side: ShortSide = 256,
    recipe: RecipeName = "h264",
    max_seconds: MaxSeconds = None,
    shard_mb: ShardMb = 128,
    min_per_class: MinPerClass = 2,
    strict: Strict = False,
) -> None:
    """The videos listed in a CSV file; paths are relative to the file's folder."""
    from shards import datasets

    dataset = datasets.csv(csv, min_per_class=min_per_class)
    _ingest(
        dataset,
        out,
        seed=seed,
        workers=workers,
        short_side=short_side,
        recipe=recipe,
        max_seconds=max_seconds,
        shard_mb=shard_mb,
        strict=strict,
    )


@shard_app.command()
def ucf101(
    root: Root,
    out: Out,
    seed: Seed = 0,
    workers: Workers = None,
    short_side: ShortSide = 256,
    recipe: RecipeName = "h264",
    max_seconds: MaxSeconds = None,
    shard_mb: ShardMb = 128,
    strict: Strict = False,
) -> None:
    """UCF101 as unpacked, with its three official splits; needs no list files."""
    from shards import datasets

    dataset = datasets.ucf101(root)
    _ingest(
        dataset,
        out,
        seed=seed,
        workers=workers,
        short_side=short_side,
        recipe=recipe,
        max_seconds=max_seconds,
        shard_mb=shard_mb,
        strict=strict,
    )


@shards_app.command()
def info(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of finished shards.")],
) -> None:
    """Classes, splits, durations, sizes, bytes and codecs."""
    from shards.manifest import read_dataset_facts, read_manifest

    manifest = read_manifest(root)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    console.print(_facts_table(manifest, read_dataset_facts(root)))
    console.print(_class_table(manifest))


@shards_app.command()
def verify(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of finished shards.")],
    decode: Annotated[bool, typer.Option("--decode", help="Also decode every frame.")] = False,
) -> None:
    """Compare every byte with the manifest; exit code 1 if anything is amiss."""
    from shards import verify as checks
    from shards.manifest import read_manifest

    num_videos = len(read_manifest(root))
    with _progress_bar("verify") as progress:
        problems = checks.verify(root, decode=decode, progress=progress)
    for problem in problems:
        typer.echo(problem)
    if problems:
        typer.echo(f"{len(problems)} problems in {root}", err=True)
        raise typer.Exit(1)
    how = "decoded and compared" if decode else "compared"
    typer.echo(f"{root}: all {num_videos} videos {how}, no problems")


def _ingest(
    dataset: "Dataset",
    out: Path,
    *,
    seed: int,
    workers: int | None,
    short_side: int,
    recipe: str,
    max_seconds: float | None,
    shard_mb: int,
    strict: bool,
) -> None:
    from shards.ingest import ingest
    from shards.recipe import Recipe

    chosen = Recipe(codec=recipe, short_side_px=short_side, max_seconds=max_seconds)
    with _progress_bar("shard") as progress:
        report = ingest(
            dataset,
            out,
            recipe=chosen,
            seed=seed,
            shard_bytes=shard_mb * _MIB,
            workers=workers,
            strict=strict,
            progress=progress,
        )
    _print_summary(dataset, out, report)


def _print_summary(dataset: "Dataset", out: Path, report: "IngestReport") -> None:
    from shards.manifest import read_manifest

    if report.already_done:
        typer.echo(f"{out}: already done by an earlier run")
    elif report.num_resumed:
        typer.echo(f"went on after {report.num_resumed} videos of an earlier run")
    typer.echo(
        f"{report.num_videos} videos, {len(dataset.classes)} classes,"
        f" {report.num_shards} shards, {_size(report.num_bytes)}"
    )
    for number, counts in _split_counts(read_manifest(out)):
        typer.echo(f"split {number}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if report.num_skipped:
        _print_skipped(out, report.num_skipped)
    typer.echo(f"digest  {report.digest}")
    typer.echo(f"shards  {out}")
    typer.echo(f"next    tb shards info {out}")


def _print_skipped(out: Path, num_skipped: int) -> None:
    from shards.ingest import SKIPPED_NAME

    path = out / SKIPPED_NAME
    typer.echo(f"{num_skipped} videos skipped, all listed in {path}:")
    lines = path.read_text().splitlines()
    for line in lines[:_NUM_REASONS_SHOWN]:
        entry = json.loads(line)
        typer.echo(f"  {entry['source']}: {entry['reason']}")
    if len(lines) > _NUM_REASONS_SHOWN:
        typer.echo(f"  ... and {len(lines) - _NUM_REASONS_SHOWN} more")


@contextmanager
def _progress_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yields a function for (done, total, key) that draws a bar with the time left on stderr."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[key]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, key="")

        def progress(num_done: int, total: int, key: str) -> None:
            bar.update(task, completed=num_done, total=total, key=key[:40])

        yield progress


def _facts_table(manifest: "Manifest", facts: dict[str, object]) -> "Table":
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(manifest.name), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # or the digest would be cut off
    seconds = manifest.num_frames / manifest.fps
    sizes = np.unique(np.stack([manifest.widths, manifest.heights], axis=1), axis=0)
    codecs = sorted(set(manifest.table.column("codec").to_pylist()))
    rates = np.unique(np.round(manifest.fps, 2))
    rows = {
        "videos": f"{len(manifest)} ({facts.get('num_skipped', 0)} skipped)",
        "classes": str(len(manifest.classes)),
    }
    for number, counts in _split_counts(manifest):
        rows[f"split {number}"] = ", ".join(f"{n} {name}" for name, n in counts.items())
    rows |= {
        "frames": f"{manifest.num_frames.sum()} ({_spread(manifest.num_frames)} per video)",
        "duration": f"{seconds.sum() / 3600:.2f} h ({_spread(seconds, '.1f')} s per video)",
        "frame rate": f"{_few([f'{rate:g}' for rate in rates])} fps",
        "size": _few([f"{width}x{height}" for width, height in sizes]),
        "codec": ", ".join(codecs),
        "bytes": f"{_size(int(manifest.sizes.sum()))} in {len(manifest.shard_names)} shards",
        "digest": manifest.digest,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


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


def _split_counts(manifest: "Manifest") -> list[tuple[int, dict[str, int]]]:
    """(split number, {"train": videos, ...}) for each, empty memberships left out."""
    result = []
    for number in range(1, manifest.num_split_numbers + 1):
        counts = {
            name or "unused": len(manifest.indices(name, number))
            for name in ("train", "val", "test", "")
        }
        result.append((number, {name: n for name, n in counts.items() if n}))
    return result


def _spread(values: "np.ndarray", form: str = "g") -> str:
    import numpy as np

    low, middle, high = np.percentile(np.asarray(values), [0, 50, 100])
    return f"{low:{form}} to {high:{form}}, median {middle:{form}}"


def _few(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _size(num_bytes: int) -> str:
    return (
        f"{num_bytes / _MIB:.1f} MiB" if num_bytes < 1 << 30 else f"{num_bytes / (1 << 30):.2f} GiB"
    )
