"""`tb train ...`: one stage of the method, or all of them."""

from pathlib import Path
from typing import Annotated

import typer

from shards.errors import InputError
from tb import api
from tb.cli.choices import BaselineOption
from tb.cli.group import Group
from tb.cli.next_command import VIDEO, places_of, say_evaluation, say_next, say_next_stage
from tb.cli.options import Out, Preset, Set, Shards
from tb.registry import is_qualified
from tb.stage_kinds import StageKind, Teacher

train_app = Group(help="Train a stage of the method, or all of them.")

Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The variant goes to WORK/NAME; WORK does not remember its settings.",
    ),
]


@train_app.command()
def invariant(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Phase 1: pretrain the invariant teacher without labels (loss L_I).

    It learns that clips of one video are alike, whatever their time.
    """
    api.train(StageKind.INVARIANT, shards=shards, out=out, preset=preset, settings=set_ or [])
    say_next_stage(shards, out)


@train_app.command()
def distinctive(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Phase 1: pretrain the distinctive teacher without labels (losses L_D1 and L_D2).

    It learns to tell the moments of a video apart.
    """
    api.train(StageKind.DISTINCTIVE, shards=shards, out=out, preset=preset, settings=set_ or [])
    say_next_stage(shards, out)


@train_app.command()
def tclr(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Phase 1: pretrain another start for the student without labels (all three losses).

    The student takes it with --set student.init=tclr.
    """
    api.train(StageKind.TCLR, shards=shards, out=out, preset=preset, settings=set_ or [])
    say_next_stage(shards, out)


@train_app.command()
def finetune(
    shards: Shards,
    out: Out,
    teacher: Annotated[Teacher, typer.Option(help="The teacher that learns the classes.")],
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from; default: that teacher's in WORK.")
    ] = None,
    preset: Preset = None,
    set_: Set = None,
) -> None:
    """Phase 2: train a teacher on the labelled videos with cross entropy."""
    api.train(
        teacher.finetuned, shards=shards, out=out, preset=preset, settings=set_ or [], init=init
    )
    say_next_stage(shards, out)


@train_app.command()
def student(
    shards: Shards, out: Out, name: Name = None, preset: Preset = None, set_: Set = None
) -> None:
    """Phase 3: train the student with both teachers, weighted for each video.

    Variants, with --set: student.teachers=stretched, calibrated, equal, invariant or distinctive
    (or oracle, with labels.with_hidden=true, for analysis);
    student.distance=kl or js; student.init=scratch, invariant, distinctive, tclr or a file.
    """
    api.train(
        StageKind.STUDENT, shards=shards, out=out, preset=preset, settings=set_ or [], name=name
    )
    _say_evaluation_of(StageKind.STUDENT.value, name, shards, out, preset, set_)


@train_app.command()
def baseline(
    method: Annotated[BaselineOption, typer.Argument(help="The method.")],
    shards: Shards,
    out: Out,
    name: Name = None,
    preset: Preset = None,
    set_: Set = None,
) -> None:
    """Train with another semi-supervised method; network, labels and steps are the student's."""
    api.train(method.value, shards=shards, out=out, preset=preset, settings=set_ or [], name=name)
    _say_evaluation_of(method.value, name, shards, out, preset, set_)


@train_app.command()
def method(
    kind: Annotated[
        str,
        typer.Argument(metavar="METHOD", help="The registered class, as in my_parts.MyMethod."),
    ],
    shards: Shards,
    out: Out,
    name: Name = None,
    preset: Preset = None,
    set_: Set = None,
) -> None:
    """Train with your own method or pretraining loss (`tb --import my_parts train method ...`)."""
    if not is_qualified(kind):
        raise InputError(f"no method {kind!r}: give module.name of a registered one")
    checkpoint = api.train(
        kind, shards=shards, out=out, preset=preset, settings=set_ or [], name=name
    )
    from tb.method.baselines import registered_pretraining

    if registered_pretraining(kind):  # it has no classifier
        places = places_of(shards, out, preset, set_)
        say_next("probe", "knn", checkpoint.parent.name, *places)
    else:
        _say_evaluation_of(checkpoint.parent.name, name, shards, out, preset, set_)


@train_app.command()
def supervised(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Train the student's network on the labelled videos alone, for the student's steps."""
    api.train(StageKind.SUPERVISED, shards=shards, out=out, preset=preset, settings=set_ or [])
    say_evaluation(StageKind.SUPERVISED.value, shards, out)


@train_app.command("all")
def train_all(
    shards: Shards,
    out: Out,
    preset: Preset = None,
    set_: Set = None,
    jobs: Annotated[int, typer.Option(help="Stages to run side by side.", min=1)] = 1,
) -> None:
    """Train every stage in order and the baseline, evaluate them and write the report.

    Run it again after an interruption: finished stages are kept, and an unfinished one goes on.
    """
    report = api.train(
        api.ALL, shards=shards, out=out, preset=preset, settings=set_ or [], jobs=jobs
    )
    from tb.training.distributed import join

    if join().is_main:
        typer.echo(report)
        say_next("predict", out, VIDEO)


def _say_evaluation_of(
    stage: str, name: str | None, shards: str, out: Path, preset: str | None, set_: Set
) -> None:
    """Names the evaluation of a stage, or of a variant, which needs its settings again."""
    if name is None:
        say_evaluation(stage, shards, out)
    else:
        say_evaluation(name, shards, out, preset, set_)
