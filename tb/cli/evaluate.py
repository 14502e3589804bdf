"""`tb eval`: the accuracy of a classifier on the held-out split.

`tb.evaluation.evaluate` says which files it writes.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from shards.counted import counted
from shards.errors import printable
from tb import api
from tb.cli.choices import complete_classifier
from tb.cli.next_command import VIDEO, say_next
from tb.cli.options import Out, PeekTest, Preset, Set, Shards

if TYPE_CHECKING:
    from tb.evaluation.accuracy import ClassRow

_NUM_CLASSES_SHOWN = 20


def evaluate_command(
    stage: Annotated[
        str,
        typer.Argument(
            metavar="STAGE",
            help="A trained classifier in WORK, e.g. student.",
            autocompletion=complete_classifier,
        ),
    ],
    shards: Shards,
    out: Out,
    preset: Preset = None,
    set_: Set = None,
    peek_test: PeekTest = False,
) -> None:
    """Measure video-level top-1 and top-5 on the held-out split (evaluation.split).

    WORK/STAGE gets the predictions, a table of classes and a confusion picture.
    Held-out videos are for one reading. A second one, with other weights or settings, needs
    --peek-test.
    """
    result = api.evaluate(
        stage, shards=shards, out=out, preset=preset, settings=set_ or [], peek_test=peek_test
    )
    from tb.evaluation.accuracy import class_table

    typer.echo(
        f"{stage}: top-1 {result.top1:.1%}, top-5 {result.top5:.1%} of"
        f" {counted(result.num_videos, 'video')} of split {result.split!r}"
        f" (chance {result.chance:.1%})"
    )
    _tell_classes(class_table(result))
    typer.echo(f"see {out / stage}/classes-{result.split}.csv, confusion-{result.split}.png")
    if result.num_readings > 1:
        typer.echo(
            f"note: split {result.split!r} was looked at {result.num_readings} times with this"
            f" stage; see {out / stage}/evaluations.jsonl"
        )
    say_next("predict", out / stage, VIDEO)


def _tell_classes(rows: list["ClassRow"]) -> None:
    """Prints the classes that have videos, worst first."""
    known = [(row.top1, row) for row in rows if row.top1 is not None]
    known.sort(key=lambda pair: pair[0])
    if len(known) > _NUM_CLASSES_SHOWN:
        typer.echo(f"the {_NUM_CLASSES_SHOWN} worst of {len(known)} classes:")
    for top1, row in known[:_NUM_CLASSES_SHOWN]:
        mistake = f"  {row.num_mistaken} taken for {row.mistaken_for}" if row.num_mistaken else ""
        text = f"  {row.name:<24} {top1:6.1%} of {row.num_videos:<4}{mistake}"
        typer.echo(printable(text))
