"""Which stage comes after which: the method from pretraining to the report, resumable."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from loaders.subset import Part
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.settings import Config
from tb.evaluation.evaluate import evaluate
from tb.method import baselines, stages
from tb.method.scores import TEACHERS
from tb.method.teachers import finetuned
from tb.networks.models import build_backbone
from tb.training.loop import Stage, train
from tb.weights.checkpoint import CHECKPOINT
from tb.weights.pretrained import load_pretrained
from tb.workflow.children import child_pool

Call = tuple[Any, ...]  # a function and its arguments
_KINDS = (*stages.NAMES, *baselines.NAMES)
# What the report compares.
_CLASSIFIERS = ("supervised", *map(finetuned, TEACHERS), "student")


def run_stage(
    kind: str,
    manifest: Manifest,
    config: Config,
    work: Path,
    *,
    init: Path | None = None,
    name: str | None = None,
) -> Path:
    """Trains one stage to its end, from its last checkpoint where there is one.

    Args:
        kind: "invariant", "distinctive", "tclr", "finetune-TEACHER", "supervised", "student" or
            one of `tb.method.baselines.NAMES`.
        manifest: The data set.
        config: Its settings.
        work: The work folder.
        init: For "finetune-TEACHER": the checkpoint to start from; default WORK/TEACHER's.
        name: For a student or a baseline: its folder in `work`, so that variants lie side by side;
            default `kind`.

    Returns:
        The final checkpoint.

    Raises:
        InputError: An earlier stage is missing or unfinished, or WORK holds other settings.
    """
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise InputError(f"--name {name}: use lower-case letters, digits, '.', '_' and '-'")
    if name != kind and name in _KINDS:
        raise InputError(f"--name {name}: that folder is another stage's; choose another name")
    stage = _build(kind, manifest, config, work, init)
    name = name or kind
    return train(replace(stage, name=name), work, config, remember=name == kind)


def _build(kind: str, manifest: Manifest, config: Config, work: Path, init: Path | None) -> Stage:
    if kind in stages.SELF_SUPERVISED:
        return stages.pretrain_stage(kind, manifest, config)
    if kind == "supervised":
        return stages.supervised_stage(manifest, config)
    if kind == "student":
        return stages.student_stage(manifest, config, work)
    if kind in baselines.NAMES:
        return baselines.baseline_stage(kind, manifest, config, work)
    for teacher in TEACHERS:
        if kind == finetuned(teacher):
            return stages.finetune_stage(
                teacher, manifest, config, init or work / teacher / CHECKPOINT
            )
    raise InputError(f"no stage {kind!r}: choose one of {', '.join(_KINDS)}")


def run_all(manifest: Manifest, config: Config, work: Path, *, jobs: int = 1) -> None:
    """Trains everything that is not trained yet, and evaluates the classifiers.

    Args:
        manifest: The data set.
        config: Its settings.
        work: The work folder.
        jobs: Stages that may run side by side where neither needs the other; results do not
            depend on it. With more than one, the calling script needs an `if __name__` guard.

    Raises:
        InputError: Something that any stage needs is missing; found out before the first one.
    """
    _check_all(manifest, config, work)
    pretrained = [*TEACHERS, *(["tclr"] if config.student.init == "tclr" else [])]
    waves = [
        (run_stage, wave)
        for wave in (pretrained, list(map(finetuned, TEACHERS)), ["student", "supervised"])
    ]
    with _runner(jobs) as run:
        for work_on, names in [*waves, (evaluate, _CLASSIFIERS)]:
            run([(work_on, name, manifest, config, work) for name in names])


def _check_all(manifest: Manifest, config: Config, work: Path) -> None:
    """Raises InputError where a later stage would fail for want of videos, labels or a start."""
    labels, init = config.labels, config.student.init
    for part in get_args(Part):
        if part != "validation" or labels.validation:
            labels.subset(part).rows(manifest)
    labels.of_split(config.evaluation.split).rows(manifest)
    backbone = build_backbone(config.backbone)
    if init not in ("scratch", *stages.SELF_SUPERVISED):
        load_pretrained(Path(init), backbone, config.backbone)


@contextmanager
def _runner(jobs: int) -> Iterator[Callable[[list[Call]], None]]:
    """Yields a function that makes calls, `jobs` at a time, and returns when all have ended."""
    if jobs == 1:

        def in_turn(calls: list[Call]) -> None:
            for function, *arguments in calls:
                function(*arguments)

        yield in_turn
        return
    with child_pool(jobs) as pool:

        def side_by_side(calls: list[Call]) -> None:
            waiting, running = list(calls), set[Future[Any]]()
            while waiting or running:
                # No more than can run: what a pool has queued, it cannot be made to forget.
                while waiting and len(running) < jobs:
                    running.add(pool.submit(*waiting.pop(0)))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()

        yield side_by_side
