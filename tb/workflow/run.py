"""Runs the stages in order, from pretraining to the last evaluation. It can be resumed."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loaders import Part
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.evaluate import evaluate
from tb.method.stages import build_stage, default_folder
from tb.networks.backbones import build_backbone
from tb.registry import is_qualified
from tb.stage_kinds import BASELINES, COMPARED, FINETUNED, StageKind
from tb.training.loop import train
from tb.training.run_state import check_data
from tb.weights.checkpoint import CHECKPOINT
from tb.weights.pretrained import load_pretrained
from tb.workflow.children import child_pool
from tb.workflow.needed_stages import needed_stages

Call = tuple[Any, ...]
"""A function and its arguments."""


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
        kind: A `StageKind` or its name, or the name of a registered method.
        manifest: The data set.
        config: All settings.
        work: The work folder.
        init: For fine-tuning: the file to start from; default: the teacher's checkpoint in `work`.
        name: For a student, a baseline or a registered method: its folder in `work`, so that
            variants lie side by side; default: see `build_stage`.

    Returns:
        The final checkpoint.

    Raises:
        InputError: There is no such stage; or an earlier stage is missing or unfinished; or `work`
            holds the stage with other settings.
    """
    is_built_in = kind in list(StageKind)
    if not is_built_in and not is_qualified(kind):
        raise InputError(
            f"no stage {kind!r}: choose one of {', '.join(StageKind)}, or a registered method, as"
            " in module.name"
        )
    default = default_folder(kind)
    name = name or default
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise InputError(
            f"name (--name) is {name!r}: use lower-case letters, digits, '.', '_' and '-'"
        )
    if (name != default or not is_built_in) and name in list(StageKind):
        raise InputError(
            f"name (--name) is {name!r}, but that folder is another stage's; choose another"
        )
    if name != default and is_built_in and kind not in (StageKind.STUDENT, *BASELINES):
        raise InputError(
            "name (--name) is for the student and the semi-supervised baselines only; leave it out"
            f" for {kind}"
        )
    if init is not None and kind not in FINETUNED:
        raise InputError(f"init (--init) is for fine-tuning; leave it out for {kind}")
    check_data(work / name / CHECKPOINT, manifest)
    stage = build_stage(kind, manifest, config, work, name=name, init=init)
    return train(stage, work, config, remember=name == default)


def run_all(manifest: Manifest, config: Config, work: Path, *, jobs: int = 1) -> None:
    """Trains everything that is not trained yet, and evaluates the classifiers.

    Args:
        manifest: The data set.
        config: All settings.
        work: The work folder.
        jobs: How many stages may run side by side. Stages that need each other wait. Results do not
            depend on it. With more than one, the calling script needs an `if __name__` guard.

    Raises:
        InputError: Something that a stage needs is missing. This is raised before the first stage.
    """
    _check_all(manifest, config)
    kinds = needed_stages(COMPARED, config)
    with runner(jobs) as run:
        for phase in (1, 2, 3):
            wave = [kind for kind in kinds if kind.phase == phase]
            run([(run_stage, kind, manifest, config, work) for kind in wave])
        run([(evaluate, kind.value, manifest, config, work) for kind in COMPARED])


def _check_all(manifest: Manifest, config: Config) -> None:
    """Raises InputError where a later stage would lack videos, labels or a start."""
    labels, start = config.labels, config.student.init_file
    for part in Part:
        if part is not Part.VALIDATION or labels.validation:
            labels.subset(part).rows(manifest)
    labels.of_split(config.evaluation.split).rows(manifest)
    backbone = build_backbone(config.backbone)
    if start is not None:
        load_pretrained(start, backbone, config.normalization)


@contextmanager
def runner(jobs: int) -> Iterator[Callable[[list[Call]], None]]:
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
                # The pool gets only calls that can run, because a queued call cannot be undone.
                while waiting and len(running) < jobs:
                    running.add(pool.submit(*waiting.pop(0)))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()

        yield side_by_side
