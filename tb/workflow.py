"""Which stage comes after which: the method from pretraining to the report, resumable."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.manifest import Manifest
from tb import stages
from tb.checkpoint import CHECKPOINT
from tb.config import Config
from tb.evaluate import evaluate
from tb.progress import PLAIN
from tb.similarity import TEACHERS
from tb.train import Stage, train

Call = tuple[Any, ...]  # a function and its arguments
CLASSIFIERS = ("supervised", *(stages.finetuned(teacher) for teacher in TEACHERS), "student")


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
    """
    pretrained = [*TEACHERS, *(["tclr"] if config.student.init == "tclr" else [])]
    finetuned = [stages.finetuned(teacher) for teacher in TEACHERS]
    waves = [(run_stage, wave) for wave in (pretrained, finetuned, ["student", "supervised"])]
    with _runner(jobs) as run:
        for work_on, names in [*waves, (evaluate, CLASSIFIERS)]:
            run([(work_on, name, manifest, config, work) for name in names])


@contextmanager
def _runner(jobs: int) -> Iterator[Callable[[list[Call]], None]]:
    """Yields a function that makes calls, `jobs` at a time, and returns when all have ended."""
    if jobs == 1:

        def in_turn(calls: list[Call]) -> None:
            for function, *arguments in calls:
                function(*arguments)

        yield in_turn
        return
    # Spawned, not forked: this process may hold threads (torch, PyAV, the loader's).
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_child)

    def side_by_side(calls: list[Call]) -> None:
        for future in [pool.submit(*call) for call in calls]:
            future.result()

    try:
        yield side_by_side
    except BaseException:
        # One stage failed, or Ctrl-C: the others save as they go, and need not be waited for.
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_child() -> None:
    """Lines instead of a bar; and an end as soon as the parent's, be it killed."""
    os.environ[PLAIN] = "1"
    # Ctrl-C reaches the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
