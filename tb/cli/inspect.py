"""`tb inspect teachers`: how good the student's targets are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tb import api
from tb.cli.group import Group
from tb.cli.next_command import say_next_stage
from tb.cli.options import Preset, Set, Shards
from tb.cli.printing import result_console

if TYPE_CHECKING:
    from tb.method.target_quality import TargetQuality
    from tb.method.teacher_inspection import TeacherInspection

inspect_app = Group(help="Look into what a student learns from.")


@inspect_app.callback()
def _group() -> None:
    """With one command only, Typer would leave out its name."""


@inspect_app.command()
def teachers(
    work: Annotated[
        list[Path], typer.Argument(help="Work folders with both teachers; --page takes several.")
    ],
    shards: Shards,
    preset: Preset = None,
    set_: Set = None,
    with_hidden_labels: Annotated[
        bool,
        typer.Option(
            "--with-hidden-labels",
            help="Judge the unlabelled videos too, by labels that training does not have: for"
            " analysis only; the record says so.",
        ),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(help="Also write a page (Markdown) with the means over the work folders."),
    ] = None,
) -> None:
    """Print how often both teachers and their mixtures are right, and draw it.

    Labelled training videos are judged by probes that did not learn from them. Each WORK gets
    teachers.json and five pictures, and its report gets a section.
    """
    found = api.inspect_all_teachers(
        work,
        page=page,
        shards=shards,
        preset=preset,
        settings=set_ or [],
        with_hidden_labels=with_hidden_labels,
    )
    for folder, inspection in found.items():
        result_console().print(_table(inspection))
        formula = inspection.calibration.formula
        typer.echo(f"calibrated: the invariant teacher's weight is {formula}")
        typer.echo(f"see {folder}/teachers.json, teachers-*.png")
    if page is not None:
        typer.echo(f"see {page}")
    if len(work) == 1:
        say_next_stage(shards, work[0])


def _table(found: "TeacherInspection") -> Table:
    from tb.reports.teacher_charts import RULE_NAMES, caption

    table = Table("right", box=None)
    for part in found.parts:
        table.add_column(caption(part), justify="right")
    for rule, name in RULE_NAMES.items():
        table.add_row(name, *(f"{part.right[rule]:.1%}" for part in found.parts))
    for rule, name in RULE_NAMES.items():
        if rule in found.parts[0].reliability:
            table.add_row(
                f"calibration error, {name}",
                *(f"{part.reliability[rule].ece:.1%}" for part in found.parts),
            )
    table.add_row("s is higher where only the invariant one is right", *map(_order, found.parts))
    return table


def _order(part: "TargetQuality") -> str:
    return "-" if part.order is None else f"{part.order:.1%}"
