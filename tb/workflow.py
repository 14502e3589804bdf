"""Which stage comes after which: the method from pretraining to the report, resumable."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loaders.subset import Subset
from shards.errors import InputError
from shards.manifest import Manifest
from tb import stages
from tb.checkpoint import CHECKPOINT, check_finished
from tb.children import child_pool
from tb.config import Config
from tb.evaluate import CLASSIFIERS, evaluate
from tb.models import build_backbone
from tb.similarity import TEACHERS
from tb.train import Stage, train

Call = tuple[Any, ...]  # a function and its arguments


def run_stage(
    name: str, manifest: Manifest, config: Config, work: Path, *, init: Path | None = None
) -> Path:
    """Trains one stage to its end, from its last checkpoint where there is one.

    Args:
        name: "invariant", "distinctive", "tclr", "finetune-TEACHER", "supervised" or "student".
        manifest: The data set.
        config: Its settings.
        work: The work folder.
        init: For "finetune-TEACHER": the checkpoint to start from; default WORK/TEACHER's.

    Returns:
        The final checkpoint.

    Raises:
        InputError: An earlier stage is missing or unfinished, or WORK holds other settings.
    """
    return train(_build(name, manifest, config, work, init), work, config)


def _build(name: str, manifest: Manifest, config: Config, work: Path, init: Path | None) -> Stage:
    if name in stages.SELF_SUPERVISED:
        return stages.pretrain_stage(name, manifest, config)
    if name == "supervised":
        return stages.supervised_stage(manifest, config)
    if name == "student":
        return stages.student_stage(manifest, config, work)
    for teacher in TEACHERS:
        if name == stages.finetuned(teacher):
            return stages.finetune_stage(
                teacher, manifest, config, init or work / teacher / CHECKPOINT
            )
    raise InputError(f"no stage {name!r}: choose one of {', '.join(stages.NAMES)}")


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
    finetuned = [stages.finetuned(teacher) for teacher in TEACHERS]
    waves = [(run_stage, wave) for wave in (pretrained, finetuned, ["student", "supervised"])]
    with _runner(jobs) as run:
        for work_on, names in [*waves, (evaluate, CLASSIFIERS)]:
            run([(work_on, name, manifest, config, work) for name in names])


def _check_all(manifest: Manifest, config: Config, work: Path) -> None:
    """Raises InputError where a later stage would fail for want of videos, labels or a start."""
    for part in ("all", "labelled", "unlabelled"):
        config.labels.subset(part).rows(manifest)
    labels, init = config.labels, config.student.init
    Subset(split=config.evaluation.split, split_number=labels.split_number).rows(manifest)
    build_backbone(config.backbone)
    if init not in ("scratch", *stages.SELF_SUPERVISED):
        check_finished(Path(init))


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
