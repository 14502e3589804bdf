"""Every command ends with the next one to run: one line on standard error, `Next: tb ...`.

Results go to standard output, which may be data for a program. The line can be pasted into a shell.
Words in capitals stand for what only the user knows, such as VIDEO.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from shards.errors import InputError
from tb import api
from tb.registry import imported_modules
from tb.stage_kinds import StageKind, Teacher

VIDEO = "VIDEO"
"""Stands for a video file, or a folder of them."""


def say_next(*words: object) -> None:
    """Prints the next command; `words` are those after `tb` and its `--import`."""
    own_parts = [word for module in imported_modules() for word in ("--import", module)]
    typer.echo(f"Next: {shlex.join(['tb', *own_parts, *map(str, words)])}", err=True)


def say_next_stage(shards: str, work: Path) -> None:
    """Names the stage of WORK to train next, or the evaluation of its student."""
    if not _speaks():
        return
    try:
        kind = api.next_stage(work)
    except InputError:  # a file of another stage is damaged, but this command has done its work
        return
    if kind is None:
        say_evaluation(StageKind.STUDENT.value, shards, work)
    else:
        say_next("train", *_words_of(kind), *places_of(shards, work))


def say_evaluation(
    stage: str,
    shards: str,
    work: Path,
    preset: str | None = None,
    settings: Sequence[str] | None = None,
) -> None:
    """Names the evaluation of a stage, with the settings that WORK does not remember."""
    if _speaks():
        say_next("eval", stage, *places_of(shards, work, preset, settings))


def say_first_stage(
    shards: str, preset: str | None = None, settings: Sequence[str] | None = None
) -> None:
    """Names the first stage for a data set, in the work folder runs/NAME."""
    name = Path(shards).resolve().name or "mine"
    places = places_of(shards, Path("runs") / name, preset, settings)
    say_next("train", StageKind.INVARIANT.value, *places)


def places_of(
    shards: str, out: Path | str, preset: str | None = None, settings: Sequence[str] | None = None
) -> list[str]:
    """The options that most commands share, as words."""
    words = ["--shards", str(shards), "--out", str(out)]
    if preset is not None:
        words += ["--preset", preset]
    return words + [word for text in settings or () for word in ("--set", text)]


def _words_of(kind: StageKind) -> list[str]:
    """The words after `tb train`."""
    for teacher in Teacher:
        if kind is teacher.finetuned:
            return ["finetune", "--teacher", teacher.value]
    return [kind.value]


def _speaks() -> bool:
    """Whether this process prints: of several that train together, only the main one does."""
    from tb.training.distributed import join

    return join().is_main
