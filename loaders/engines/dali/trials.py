"""Tries layouts on the loader's own videos."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice

import torch

from loaders.engines.dali.engine import DaliEngine
from loaders.engines.dali.layout import (
    DaliLayout,
    DaliViews,
    Trial,
    candidates,
    choose,
    triton_is_installed,
)
from loaders.plan.draw import Plan
from shards.reader import ShardReader

_TIMED_BATCHES = 8


def with_best_layout(
    engine: DaliEngine,
    reader: ShardReader,
    plans: Callable[[], Iterator[Plan]],
    gpu_memory_mb: float | None,
) -> DaliEngine:
    """The same engine with the fastest layout that keeps to the memory limit.

    Args:
        engine: The engine to lay out.
        reader: Reads the videos.
        plans: Returns plans without end, from the start of the stream.
        gpu_memory_mb: The limit; None for no limit.

    Raises:
        InputError: Every layout takes more memory than the limit.
    """
    layouts = candidates(engine.num_decoders, views_to_try(engine.device))
    trials = _measure(engine, reader, plans, layouts, gpu_memory_mb)
    return replace(engine, layout=choose(trials, gpu_memory_mb))


def views_to_try(device: torch.device) -> list[DaliViews]:
    """What can make views on the device in useful time."""
    if device.type == "cuda" and triton_is_installed():
        return list(DaliViews)
    return [DaliViews.OPERATORS]


def _measure(
    engine: DaliEngine,
    reader: ShardReader,
    plans: Callable[[], Iterator[Plan]],
    layouts: Sequence[DaliLayout],
    gpu_memory_mb: float | None,
) -> list[Trial]:
    """Tries layouts in their order, up to the first that exceeds the memory limit.

    The order is ascending in memory, because DALI keeps the memory that it has taken once.
    """
    trials: list[Trial] = []
    free_bytes = _free_bytes(engine.device)
    for layout in layouts:
        with (
            closing(replace(engine, layout=layout)) as candidate,
            closing(candidate.run(reader, plans())) as batches,
        ):
            for _ in islice(batches, layout.num_batches + 1):
                pass
            _synchronize(engine.device)
            began_s = time.perf_counter()
            num_videos = sum(
                int((rendered.plan.rows >= 0).sum()) for rendered in islice(batches, _TIMED_BATCHES)
            )
            _synchronize(engine.device)
            trials.append(
                Trial(
                    layout=layout,
                    videos_per_s=num_videos / (time.perf_counter() - began_s),
                    gpu_memory_mb=(free_bytes - _free_bytes(engine.device)) / 2**20,
                )
            )
        if gpu_memory_mb is not None and trials[-1].gpu_memory_mb > gpu_memory_mb:
            break
    return trials


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
