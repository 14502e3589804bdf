"""How many DALI pipelines, and how many batches in each: chosen by trying.

One pipeline may keep but one of a GPU's video decoders busy (NVIDIA/DALI#6387), and each more costs
memory; how many pay off depends on the GPU, the videos and the views.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch

from loaders.plan.draw import Plan
from shards.errors import InputError
from shards.reader import ShardReader

if TYPE_CHECKING:
    from loaders.engines.dali.engine import DaliPipeline

_TIMED_BATCHES = 8
# A layout that is slower by less is taken for as fast, and the smaller one wins.
_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True, order=True)
class Tuning:
    """How work is laid out: pipelines that take turns, and batches that each has in flight."""

    num_pipelines: int
    depth: int

    def __post_init__(self) -> None:
        if self.num_pipelines < 1 or self.depth < 1:
            raise InputError(
                f"num_pipelines={self.num_pipelines}, depth={self.depth}: both must be 1 or more"
            )

    @property
    def num_batches(self) -> int:
        """In flight at once."""
        return self.num_pipelines * self.depth


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One layout, measured; `gpu_memory_mb` is what was in use at its end beyond the start."""

    tuning: Tuning
    videos_per_s: float
    gpu_memory_mb: float


def candidates(num_engines: int) -> list[Tuning]:
    """Layouts worth trying with that many video decoders, those that need least memory first."""
    pipelines = sorted({1, 2, 4, num_engines} & set(range(1, max(num_engines, 2) + 1)))
    layouts = [Tuning(num_pipelines=n, depth=depth) for n in pipelines for depth in (1, 2)]
    return sorted(layouts, key=lambda tuning: (tuning.num_batches, tuning))


def choose(trials: Sequence[Trial], gpu_memory_mb: float | None) -> Tuning:
    """The smallest layout that is as fast as the fastest within the memory cap.

    Raises:
        InputError: None keeps within the cap.
    """
    fitting = [t for t in trials if gpu_memory_mb is None or t.gpu_memory_mb <= gpu_memory_mb]
    if not fitting:
        raise InputError(
            f"gpu_memory_mb is {gpu_memory_mb:g}: the smallest layout of the loader takes "
            f"{trials[0].gpu_memory_mb:.0f} MB; allow more, or give a smaller batch_size, size_px "
            "or dtype"
        )
    fast = (1 - _TOLERANCE) * max(trial.videos_per_s for trial in fitting)
    return next(trial.tuning for trial in fitting if trial.videos_per_s >= fast)


def measure(
    engine: "DaliPipeline",
    reader: ShardReader,
    plans: Callable[[], Iterator[Plan]],
    layouts: Sequence[Tuning],
    gpu_memory_mb: float | None = None,
) -> list[Trial]:
    """Tries layouts in their order, up to the first that exceeds the memory cap.

    Args:
        engine: What is to be laid out.
        reader: Of the videos.
        plans: Gives an endless supply of plans, from its start.
        layouts: In ascending order of memory, because DALI keeps what it has once taken.
        gpu_memory_mb: The cap.
    """
    trials: list[Trial] = []
    free_bytes = _free_bytes(engine.device)
    for tuning in layouts:
        with closing(replace(engine, tuning=tuning).run(reader, plans())) as batches:
            for _ in islice(batches, tuning.num_batches + 1):
                pass
            _synchronize(engine.device)
            began_s = time.perf_counter()
            num_videos = sum(
                int((rendered.plan.rows >= 0).sum()) for rendered in islice(batches, _TIMED_BATCHES)
            )
            _synchronize(engine.device)
            trials.append(
                Trial(
                    tuning=tuning,
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
