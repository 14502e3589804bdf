"""`tb reproduce`: runs the paper's tables."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from shards.errors import InputError
from tb import api
from tb.cli.choices import BackboneOption, TableOption
from tb.cli.next_command import say_next
from tb.cli.options import Set

# Panels of the help.
_wanted = partial(typer.Option, rich_help_panel="Which runs")
_running = partial(typer.Option, rich_help_panel="How it runs")


def reproduce_command(
    table: Annotated[TableOption, typer.Argument(help="The table.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; several runners may share it.")],
    dataset: Annotated[
        str, _wanted(help="ucf101, hmdb51, kinetics400, demo, or a preset of your own set.")
    ] = "demo",
    shards: Annotated[
        str | None, typer.Option(metavar="SHARDS", help="Finished shards; the demo makes its own.")
    ] = None,
    backbone: Annotated[BackboneOption, _wanted(help="For the paper's sets.")] = BackboneOption.R50,
    rows: Annotated[str | None, _wanted(help="Only these rows: names, with commas.")] = None,
    percents: Annotated[
        str | None, _wanted(help="Only these percentages of labels, with commas.")
    ] = None,
    seeds: Annotated[int, _wanted(help="Seeds 0, 1, ... of every row.", min=1)] = 1,
    jobs: Annotated[int, _running(help="Runs side by side on this machine.", min=1)] = 1,
    dry_run: Annotated[
        bool, _running("--dry-run", help="Print the runs and what they would cost.")
    ] = False,
    set_: Set = None,
) -> None:
    """Train and evaluate all rows of a paper's table; print ours beside the published numbers.

    Run it again after an interruption, or on further machines with the same --out: no row runs
    twice. --percents, --rows and --seeds may grow later; finished runs are kept.
    """
    from tb.tables.reproduce import Reproduction

    wanted = Reproduction(
        table=table.value,
        dataset=dataset,
        backbone=backbone.value,
        rows=None if rows is None else tuple(rows.split(",")),
        percents=_numbers(percents),
        seeds=seeds,
        overrides=tuple(set_ or []),
    )
    if dry_run:
        typer.echo(api.reproduce_cost(wanted, out=out, shards=shards))
        side_by_side = ["--jobs", jobs] if jobs > 1 else []
        say_next(*wanted.words(shards=shards, out=str(out)), *side_by_side)
        return
    path = api.reproduce(wanted, out=out, shards=shards, jobs=jobs)
    typer.echo(path.read_text())
    typer.echo(path)
    say_next("runs", "ls", out)


def _numbers(percents: str | None) -> tuple[float, ...] | None:
    if percents is None:
        return None
    try:
        return tuple(float(text) for text in percents.split(","))
    except ValueError:
        raise InputError(f"--percents {percents}: write numbers with commas, as in 5,20") from None
