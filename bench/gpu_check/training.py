"""Step `training`: the training step, one row at a time, compiled once for each shape.

The rows "ready in memory" and "from ..." of a stage and size share one compiled network. Only the
source of its batches changes, so these rows differ only by the loader.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.memory import give_memory_back
from bench.gpu_check.task import CheckCell, Task
from bench.train_step import TimedStep, TrainingJob, loaded, num_flops, synthetic
from bench.train_variants import Variant, peak_flops, variants
from tb.config.load_config import load_config

READY, PLAIN = "ready in memory", "plain"
# Videos of a batch, if they fit. With four, a GPU does the student's step faster than the CPU
# launches it, and its time says nothing of the GPU.
_BATCH_SIZES = {"distinctive": 4, "student": 16}


@dataclass(kw_only=True)
class _Training:
    """One stage at one size on the device."""

    job: TrainingJob
    ours: Variant
    step: TimedStep


def cells(task: Task) -> Iterator[CheckCell]:
    """For each size and stage: ready batches, each engine, the operations, then other variants."""
    sizes = (32,) if task.is_dry else (224, 112)
    for size_px in sizes:
        for stage in ("distinctive", "student"):
            is_long = size_px != sizes[0]
            row = partial(_cell, task, stage, size_px)
            yield row(READY, _ready, is_long)
            for engine in ("dali", "fused"):
                yield row(f"from {engine}", partial(_from, engine=engine), is_long)
            yield row("operations", _operations, True)
            if not task.is_dry:
                yield row("eager", partial(_other, name="eager"), True)
            yield row(PLAIN, partial(_other, name="plain"), is_long)


def _cell(
    task: Task, stage: str, size_px: int, name: str, run: Callable[..., CellFigures], is_long: bool
) -> CheckCell:
    return CheckCell(
        name=f"{stage} {size_px} {name}", run=partial(run, task, stage, size_px), is_long=is_long
    )


def _ready(task: Task, stage: str, size_px: int) -> CellFigures:
    training = _training(task, stage, size_px)
    training.step.batches = synthetic(training.job, training.ours)
    return _measure(task, training.step, training.job)


def _from(task: Task, stage: str, size_px: int, engine: str) -> CellFigures:
    training = _training(task, stage, size_px)
    with ExitStack() as stack:
        training.step.batches = loaded(training.job, training.ours, stack, engine=engine)
        return _measure(task, training.step, training.job)


def _operations(task: Task, stage: str, size_px: int) -> CellFigures:
    job = replace(_job(task, stage, size_px), batch_size=2)
    count = num_flops(job, _variants(job)["ours"])
    return {
        "teraflop_per_video": count / job.num_videos / 1e12,
        "peak_teraflops": (peak_flops(task.device) or 0) / 1e12 or None,
    }


def _other(task: Task, stage: str, size_px: int, name: str) -> CellFigures:
    batch_size = _training(task, stage, size_px).job.batch_size
    _training.cache_clear()
    give_memory_back()
    job = replace(_job(task, stage, size_px), batch_size=batch_size)
    with ExitStack() as stack:
        return _measure(task, TimedStep(job, _variants(job)[name], stack), job)


def _measure(task: Task, step: TimedStep, job: TrainingJob) -> CellFigures:
    if not task.is_dry:
        step.measure(2)  # compiles, and finds its memory
    step.seconds.clear()
    for _ in range(1 if task.is_dry else 5):
        step.measure(1 if task.is_dry else 3)
    step_s = statistics.median(step.seconds)
    return {
        "step_s": round(step_s, 5),
        "videos_per_s": round(job.num_videos / step_s, 2),
        "videos_per_step": job.num_videos,
        "memory_mb": step.step_bytes // 2**20,
    }


@lru_cache(maxsize=1)
def _training(task: Task, stage: str, size_px: int) -> _Training:
    """The stage with its `_BATCH_SIZES` videos, or with fewer if these do not fit into the GPU."""
    give_memory_back()
    job = _job(task, stage, size_px)
    while (training := _fitting(task, job)) is None:
        job = replace(job, batch_size=job.batch_size // 2)
        give_memory_back()
    return training


def _fitting(task: Task, job: TrainingJob) -> _Training | None:
    """The training of a job; None if it takes too much memory and could take less."""
    ours = _variants(job)["ours"]
    try:
        step = TimedStep(job, ours, ExitStack())
        if not task.is_dry:
            step.measure(1)
        return _Training(job=job, ours=ours, step=step)
    except torch.OutOfMemoryError:
        if job.batch_size == 1:
            raise
    return None


def _job(task: Task, stage: str, size_px: int) -> TrainingJob:
    batch_size = 2 if task.is_dry else _BATCH_SIZES[stage]
    settings = [
        f"backbone={'small' if task.is_dry else 'slow_r50'}",
        f"pretrain.clips.size_px={size_px}",
        f"classify.clips.size_px={size_px}",
        f"pretrain.optim.batch_size={batch_size}",
    ]
    return TrainingJob(
        stage=stage,
        config=load_config(None, settings),
        batch_size=batch_size,
        device=task.device,
        shards=task.shards("h264"),
    )


def _variants(job: TrainingJob) -> dict[str, Variant]:
    found = variants(job.device, job.stage, shards=False, compiled=False)
    return {variant.name: variant for variant in found}
