"""Plans to filled buffers: threads that read, decode and augment, a few batches ahead.

A thread renders one video at a time (PyAV and the kernel both release the GIL) straight into the
batch's buffers. The cost of threads over processes is that Python code between the two serialises;
it is microseconds a video, and no pixel is copied between processes. Nothing is left to time out:
a worker's failure, whatever it is, surfaces where its batch is collected.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import numpy as np
import torch

from loaders.decode import DecodeError
from loaders.engines.choice import Render
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from shards.reader import ShardError, ShardReader

# Batches in flight beside the one being consumed: enough to hide a slow video, small in memory.
_PREFETCH = 2


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """Seconds that worker threads spent in each stage."""

    read_s: float = 0.0
    decode_s: float = 0.0
    augment_s: float = 0.0

    def __add__(self, other: "StageTimes") -> "StageTimes":
        return StageTimes(
            read_s=self.read_s + other.read_s,
            decode_s=self.decode_s + other.decode_s,
            augment_s=self.augment_s + other.augment_s,
        )


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A batch's pixels.

    Attributes:
        plan: What was drawn.
        views: One (B, V, T, S, S, 3) tensor a group of views; 0 where there is no video.
        errors: Row of the plan -> why that video is missing.
        times: Of all its videos.
    """

    plan: Plan
    views: list[torch.Tensor]
    errors: dict[int, DecodeError | ShardError]
    times: StageTimes


class Renderer(Protocol):
    """What makes the pixels of a loader's plans."""

    def run(self, reader: ShardReader, plans: Iterator[Plan]) -> Generator[Rendered]:
        """Yields one `Rendered` a plan, in order. Closing the iterator ends all work."""
        ...

    def tuned(
        self,
        reader: ShardReader,
        plans: Callable[[], Iterator[Plan]],
        gpu_memory_mb: float | None,
    ) -> "Renderer":
        """The same, laid out as trials on endless `plans()` find fastest within the memory."""
        ...


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Renders plans of one `ViewSpec` with `num_workers` threads; dtype is NumPy's name."""

    render: Render
    spec: ViewSpec
    dtype: str
    num_workers: int
    buffers: "BufferPool" = field(default_factory=lambda: BufferPool())

    def run(self, reader: ShardReader, plans: Iterator[Plan]) -> Generator[Rendered]:
        """See `Renderer`; the views are on the CPU."""
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="loader")
        pending: deque[tuple[Plan, list[np.ndarray], dict[int, Future[StageTimes]]]] = deque()
        try:
            for plan in plans:
                buffers = self._buffers(plan)
                jobs = {
                    b: pool.submit(self._render, reader, plan, b, [array[b] for array in buffers])
                    for b in np.flatnonzero(plan.rows >= 0).tolist()
                }
                pending.append((plan, buffers, jobs))
                del buffers  # else this frame would keep a batch from being reused
                if len(pending) > _PREFETCH:
                    yield _collect(*pending.popleft())
            while pending:
                yield _collect(*pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def tuned(
        self,
        reader: ShardReader,
        plans: Callable[[], Iterator[Plan]],
        gpu_memory_mb: float | None,
    ) -> "Pipeline":
        """See `Renderer`; there is nothing to choose."""
        return self

    def _buffers(self, plan: Plan) -> list[np.ndarray]:
        clip = (self.spec.num_frames, plan.size_px, plan.size_px, 3)
        shapes = [(len(plan.rows), len(group.offsets), *clip) for group in self.spec.groups]
        buffers = [self.buffers.take(shape, self.dtype) for shape in shapes]
        for array in buffers:
            array[plan.rows < 0] = 0
        return buffers

    def _render(self, reader: ShardReader, plan: Plan, b: int, out: list[np.ndarray]) -> StageTimes:
        began_s = time.perf_counter()
        data = reader.read(int(plan.rows[b]))
        read_s = time.perf_counter()
        augment_s = self.render(data, plan, b, out)
        return StageTimes(
            read_s=read_s - began_s,
            decode_s=time.perf_counter() - read_s - augment_s,
            augment_s=augment_s,
        )


def _collect(
    plan: Plan, buffers: list[np.ndarray], jobs: "dict[int, Future[StageTimes]]"
) -> Rendered:
    times = StageTimes()
    errors: dict[int, DecodeError | ShardError] = {}
    for b, job in jobs.items():
        try:
            times += job.result()
        except (DecodeError, ShardError) as error:
            errors[b] = error
            for array in buffers:
                array[b] = 0
    views = [torch.from_numpy(array) for array in buffers]
    return Rendered(plan=plan, views=views, errors=errors, times=times)


class BufferPool:
    """Arrays that are used again once nobody but the pool holds them.

    Fresh memory costs a page fault every 4 KB, as much time as a third of the augmentation. A
    tensor made from an array holds it, so a batch that the consumer keeps is never written to.
    """

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._lock = Lock()  # two iterators of one loader may run in two threads

    def __reduce__(self) -> tuple[type["BufferPool"], tuple[()]]:
        return BufferPool, ()  # a copy in another process starts empty

    def take(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array of whatever content."""
        with self._lock:
            for index in range(len(self._arrays)):
                # References: the pool's list and getrefcount's own argument.
                free = sys.getrefcount(self._arrays[index]) == 2
                known = self._arrays[index]
                if free and known.shape == shape and known.dtype == dtype:
                    return known
            array = np.empty(shape, dtype)
            # Bounded: what the consumer keeps for itself is not the pool's to remember.
            self._arrays = [*self._arrays[-4 * (_PREFETCH + 2) :], array]
            return array
