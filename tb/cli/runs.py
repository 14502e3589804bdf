"""`tb runs ...`: runs in a list, one by one, compared and plotted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shards.errors import printable
from shards.files.path_kinds import is_file
from tb import api
from tb.cli.group import Group
from tb.cli.next_command import say_next
from tb.cli.options import Picture
from tb.cli.printing import result_console

if TYPE_CHECKING:
    from tb.reports.runs import Run

runs_app = Group(help="Look at runs, and compare them.")

StageFolder = Annotated[Path, typer.Argument(help="A stage's folder, e.g. runs/ucf101/student.")]


@runs_app.command()
def ls(
    folders: Annotated[list[Path], typer.Argument(metavar="WORK", help="Work folders.")],
) -> None:
    """List the runs in and below some folders, one per line."""
    from tb.reports.runs import short_names

    runs = api.find_runs(*folders)
    splits = sorted({split for run in runs for split in run.results})
    table = Table("run", box=None)
    for name in (
        "steps",
        "loss",
        "videos/s",
        "waiting",
        "minutes",
        *map("top-1 {}".format, splits),
    ):
        table.add_column(name, justify="right")
    for run, name in zip(runs, short_names(runs), strict=True):
        table.add_row(name, *_cells(run), *(_top1(run, split) for split in splits))
    result_console().print(table)
    if len(runs) > 1:
        say_next("runs", "compare", *(run.folder for run in runs[:2]))
    elif runs:
        say_next("runs", "show", runs[0].folder)
    else:
        say_next("demo")


@runs_app.command()
def show(run: StageFolder) -> None:
    """Print a run's last metrics, accuracies and settings."""
    from tb.config.differences import flatten
    from tb.training.bad_videos import BAD_LIST

    found = api.read_run(run)
    console = result_console()
    steps = "?" if found.steps is None else found.steps
    name = printable(str(run))
    typer.echo(f"{name}: {found.step} of {steps} steps saved, {found.seconds / 60:.1f} minutes")
    if found.bad:
        typer.echo(f"bad videos that were left out: {len(found.bad)}; see {name}/{BAD_LIST}")
    if found.calibration is not None:
        typer.echo(f"the invariant teacher's weight: {found.calibration.formula}")
    console.print(_table(("metric", "last"), [(k, _number(v)) for k, v in found.final.items()]))
    settings = [(name, str(value)) for name, value in flatten(found.config).items()]
    console.print(_table(("setting", "value"), settings))
    _say_plot(run)


@runs_app.command()
def compare(one: StageFolder, two: StageFolder) -> None:
    """Print where the settings of two runs differ, and their last metrics side by side."""
    found = api.compare_runs(one, two)
    console = result_console()
    if found.settings:
        changed = [(name, str(a), str(b)) for name, a, b in found.settings]
        console.print(_table(("setting", *found.names), changed))
    else:
        typer.echo("the settings are the same")
    rows = [(name, _number(a), _number(b)) for name, (a, b) in found.metrics.items()]
    console.print(_table(("metric", *found.names), rows))
    _say_plot(one, two)


@runs_app.command()
def plot(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Stages' folders, e.g. runs/ucf101/student.")
    ],
    out: Picture,
    metric: Annotated[str, typer.Option(help="Which column of metrics.jsonl.")] = "loss",
) -> None:
    """Draw one metric of several runs over their steps."""
    from tb.config.work_data import DATA

    typer.echo(api.plot_runs(*runs, out=out, metric=metric))
    work = runs[0].parent if runs[0].name else runs[0].resolve().parent  # "." has no parent
    if is_file(work / DATA):
        say_next("views", work, "--out", "views.png")
    else:  # this is not a work folder, so it does not know its data
        say_next("runs", "show", runs[0])


def _say_plot(*runs: Path) -> None:
    say_next("runs", "plot", *runs, "--out", "loss.png")


def _cells(run: "Run") -> list[str]:
    final, steps = run.final, "?" if run.steps is None else run.steps
    if "loss" not in final:
        return [f"{run.step}/{steps}", "", "", "", ""]
    return [
        f"{run.step}/{steps}",
        f"{final['loss']:.3f}",
        f"{final['videos_per_s']:.1f}",
        f"{run.wait_fraction:.0%}",
        f"{run.seconds / 60:.1f}",
    ]


def _top1(run: "Run", split: str) -> str:
    return f"{run.results[split]['top1']:.1%}" if split in run.results else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    return table
