"""What several steps need: loaders and their plans, and timing."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import torch

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.task import Task
from loaders import DaliLayout, Loader, Plan, ViewSpec, open_loader
from loaders.engines.dali.engine import DaliEngine
from loaders.engines.dali.layout import DaliViews, usual_layout
from loaders.engines.dali.meter import Meter

_WARM_BATCHES, _SECONDS = 6, 2.5


@contextmanager
def dali_engine(
    task: Task, views: str | ViewSpec, *, batch_size: int, recipe: str | None = None
) -> Iterator[tuple[DaliEngine, Loader]]:
    """A DALI engine and its loader, for the videos of a recipe that DALI decodes here."""
    recipe = recipe or task.decoded_recipe
    # The engine is driven by hand, so a loader process has no part in it.
    loader = open_loader(
        task.shards(recipe),
        views,
        engine="dali",
        device=str(task.device),
        batch_size=batch_size,
        in_process=True,
    )
    with loader:
        yield cast(DaliEngine, loader.engine), loader


def usual(task: Task, batch_size: int, views: DaliViews) -> DaliLayout:
    """The layout that the device gets where none is tried; `views` says what makes the views."""
    if task.is_dry:
        return DaliLayout(num_pipelines=1, depth=1, num_threads=1, views=views)
    return replace(usual_layout(task.num_decoders, batch_size), views=views)


def plan_of(loader: Loader) -> Plan:
    """The first plan of a loader, without padding."""
    return next(loader.planner.stream())


def rate(task: Task, counts: Generator[int], **more: Any) -> CellFigures:
    """Videos per second after a warm-up, with the load of the GPU.

    Args:
        task: The input of the step.
        counts: Yields the number of videos of each batch.
        **more: Further figures for the result.
    """
    warm_batches, seconds = (1, 0.1) if task.is_dry else (_WARM_BATCHES, _SECONDS)
    with closing(counts):
        for _ in islice(counts, warm_batches):
            pass
        num_videos = 0
        synchronize(task.device)
        with Meter(task.device) as meter:
            began_s = time.perf_counter()
            while time.perf_counter() - began_s < seconds:
                num_videos += next(counts)
            synchronize(task.device)
            wall_s = time.perf_counter() - began_s
    return {"videos_per_s": round(num_videos / wall_s, 1), **more, **meter.figures}


def synchronize(device: torch.device) -> None:
    """Waits for the GPU; nothing to do on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
