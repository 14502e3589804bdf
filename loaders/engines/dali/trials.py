"""Tries layouts on the loader's own videos."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice

import torch

from loaders.engines.dali.engine import DaliEngine
from loaders.engines.dali.layout import (
    Axis,
    DaliLayout,
    DaliViews,
    Trial,
    TryLayouts,
    best_so_far,
    choose,
    limit,
    triton_is_installed,
    usual_layout,
    variations,
)
from loaders.engines.dali.meter import Meter
from loaders.plan.draw import Plan
from shards.reader import ShardReader

_logger = logging.getLogger(__name__)

_TIMED_BATCHES = 8


def with_best_layout(
    engine: DaliEngine,
    reader: ShardReader,
    plans: Callable[[], Iterator[Plan]],
    wanted: TryLayouts,
) -> DaliEngine:
    """The same engine with the best of some layouts, as `choose` says.

    Args:
        engine: The engine to lay out.
        reader: Reads the videos.
        plans: Returns plans without end, from the start of the stream.
        wanted: The limit of memory, and what makes the views.

    Raises:
        InputError: Every layout takes more memory than the limit.
    """
    batch_size, num_decoders = engine.batch_size, engine.num_decoders
    free_bytes, gpu_memory_mb = _free_bytes(engine.device), wanted.gpu_memory_mb
    start = usual_layout(num_decoders, batch_size, DaliViews(wanted.views or DaliViews.OPERATORS))
    trials = [_measure(engine, reader, plans, start, free_bytes)]
    for axis in axes_to_try(engine.device):  # all combinations would take minutes
        if axis is Axis.VIEWS and wanted.views is not None:
            continue
        best = best_so_far(trials, gpu_memory_mb).layout
        tried = {trial.layout for trial in trials}
        trials += [
            _measure(engine, reader, plans, layout, free_bytes)
            for layout in variations(axis, best, num_decoders, batch_size)
            if layout not in tried
        ]
    chosen = choose(trials, gpu_memory_mb)
    _logger.info(
        "loader: %s: %.0f videos/s, the fastest of %d layouts; its limit is %s",
        *(chosen.layout, chosen.videos_per_s, len(trials), limit(trials, chosen, gpu_memory_mb)),
    )
    return replace(engine, layout=chosen.layout)


def axes_to_try(device: torch.device) -> list[Axis]:
    """What is varied on a device. On a CPU the kernel would take minutes."""
    has_kernel = device.type == "cuda" and triton_is_installed()
    return [axis for axis in Axis if axis is not Axis.VIEWS or has_kernel]


def _measure(
    engine: DaliEngine,
    reader: ShardReader,
    plans: Callable[[], Iterator[Plan]],
    layout: DaliLayout,
    free_bytes: int,
) -> Trial:
    """Tries a layout; `free_bytes` of the GPU's memory were free before the first trial."""
    with (
        closing(replace(engine, layout=layout)) as candidate,
        closing(candidate.run(reader, plans())) as batches,
    ):
        for _ in islice(batches, layout.num_batches + 1):
            pass
        _synchronize(engine.device)
        began_s = time.perf_counter()
        with Meter(engine.device) as meter:
            num_videos = sum(
                int((rendered.plan.rows >= 0).sum()) for rendered in islice(batches, _TIMED_BATCHES)
            )
            _synchronize(engine.device)
            wall_s = time.perf_counter() - began_s
        return Trial(
            layout=layout,
            videos_per_s=num_videos / wall_s,
            # Closing an engine returns its memory, so the trials before do not count.
            gpu_memory_mb=(free_bytes - _free_bytes(engine.device)) / 2**20,
            decoder_percent=meter.mean("decoder_percent"),
            sm_percent=meter.mean("sm_percent"),
        )


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
