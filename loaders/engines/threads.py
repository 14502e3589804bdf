"""A threaded engine: each thread renders one video at a time into the buffers of a batch.

Decoders and the compiled kernel release the GIL, so the threads run in parallel, and no pixel is
copied between processes. The cost is that the Python code between them runs in one thread at a
time, for some microseconds per video. An error in a thread is raised where its batch is collected,
so nothing has to wait for a time limit.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar

import numpy as np

from loaders.engines.buffers import BufferPool
from loaders.engines.engine import Rendered, RenderVideo, WorkTimes
from loaders.engines.memory import MB, view_bytes
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from shards.decode.packet_decoder import DecodeError
from shards.reader import ShardError, ShardReader

# Batches in work after the one that is collected: at least 2, which hides a slow video, and more if
# a thread would otherwise have fewer than two videos. Their views take at most two batches or
# `LOOKAHEAD_MB`, whichever is more.
_MIN_BATCHES_AHEAD = 2
_VIDEOS_PER_THREAD = 2
LOOKAHEAD_MB = 2048

TakeViews = Callable[[Plan], list[np.ndarray]]
"""Memory for the views of a plan's batch, one (B, V, T, S, S, 3) array for each group of views."""
# The memory of a thread, in bytes per pixel of a picture: the frames in 4:2:0 that a decoder hands
# over at a time, and those that it keeps.
_FRAME_BYTES_PER_PX = 1.5 * 32

# A plan, its buffers, and the job of each row of the plan.
_Pending = tuple[Plan, list[np.ndarray], "dict[int, Future[WorkTimes]]"]


class ThreadedEngine:
    """Executes plans of one `ViewSpec` on the CPU, with `render_video` in `num_workers` threads."""

    synchronizes_gpu: ClassVar[bool] = False

    def __init__(
        self,
        render_video: RenderVideo,
        spec: ViewSpec,
        *,
        dtype: str,
        batch_size: int,
        num_workers: int,
        lookahead_mb: int = LOOKAHEAD_MB,
        threads: ThreadPoolExecutor | None = None,
        prepare: Callable[[np.ndarray], None] | None = None,
        picture_px: float = 0.0,
    ) -> None:
        """The threads start with the first run.

        Args:
            render_video: Renders one video.
            spec: The views.
            dtype: NumPy's name of the views' type.
            batch_size: Rows of a plan.
            num_workers: Number of threads.
            lookahead_mb: See `num_batches_ahead`.
            threads: The threads, if other engines share them. `close` leaves them alone.
            prepare: See `BufferPool`.
            picture_px: Pixels of a usual picture, from which memory is predicted.
        """
        self._render_video, self._spec, self._dtype = render_video, spec, dtype
        self._num_workers, self._batch_size = num_workers, batch_size
        self._picture_px = picture_px
        self.num_batches_ahead = num_batches_ahead(
            batch_size * view_bytes(spec, dtype), batch_size, num_workers, lookahead_mb
        )
        self._is_shared = threads is not None
        self._threads = threads or ThreadPoolExecutor(num_workers, thread_name_prefix="loader")
        # These are the batches ahead, the one that is collected, and the one that the consumer has.
        self._num_buffered = self.num_batches_ahead + 2
        self._buffers = BufferPool(len(spec.groups) * self._num_buffered, prepare)

    def run(
        self, reader: ShardReader, plans: Iterator[Plan], take: TakeViews | None = None
    ) -> Generator[Rendered]:
        """See `Engine`; the views are on the CPU.

        Args:
            reader: Reads the videos.
            plans: What to render.
            take: Gives the memory for each batch. By default the engine has memory of its own, and
                uses it again once nobody refers to it.
        """
        take = take or self._own_memory
        pending: deque[_Pending] = deque()
        try:
            for plan in plans:
                buffers = take(plan)
                for array in buffers:
                    array[plan.rows < 0] = 0
                jobs = {
                    b: self._threads.submit(
                        self._read_and_render, reader, plan, b, [array[b] for array in buffers]
                    )
                    for b in np.flatnonzero(plan.rows >= 0).tolist()
                }
                pending.append((plan, buffers, jobs))
                del buffers, array  # these variables would keep the buffers in use
                if len(pending) > self.num_batches_ahead:
                    yield _collect_first(pending)
            while pending:
                yield _collect_first(pending)
        finally:
            end_jobs(job for _, _, jobs in pending for job in jobs.values())

    def memory_mb(self) -> float:
        """See `Engine`."""
        batch = self._batch_size * view_bytes(self._spec, self._dtype)
        threads = self._num_workers * _FRAME_BYTES_PER_PX * self._picture_px
        return (self._num_buffered * batch + threads) / MB

    def close(self) -> None:
        """See `Engine`."""
        if not self._is_shared:
            self._threads.shutdown(cancel_futures=True)
        self._buffers.clear()

    def _own_memory(self, plan: Plan) -> list[np.ndarray]:
        return self._buffers.take(view_shapes(self._spec, len(plan.rows)), self._dtype)

    def _read_and_render(
        self, reader: ShardReader, plan: Plan, b: int, out: list[np.ndarray]
    ) -> WorkTimes:
        began_s = time.perf_counter()
        row, frames = int(plan.rows[b]), plan.frames[b]
        video = reader.read_frames(row, int(frames.min()), int(frames.max()))
        read_s = time.perf_counter()
        augment_s = self._render_video(video, plan, b, out)
        return WorkTimes(
            read_s=read_s - began_s,
            decode_s=time.perf_counter() - read_s - augment_s,
            augment_s=augment_s,
        )


def view_shapes(spec: ViewSpec, batch_size: int) -> list[tuple[int, ...]]:
    """The (B, V, T, S, S, 3) shape of a batch's views, for each group of views."""
    clip = (spec.num_frames, spec.size_px, spec.size_px, 3)
    return [(batch_size, len(group.offsets), *clip) for group in spec.groups]


def num_batches_ahead(
    batch_bytes: int, batch_size: int, num_workers: int, lookahead_mb: int
) -> int:
    """How many batches are in work after the one that is collected: enough for all threads.

    They take at most `lookahead_mb` (in 2**20 bytes), but there are at least two batches.
    """
    within_memory = lookahead_mb * 2**20 // batch_bytes
    enough = -(-_VIDEOS_PER_THREAD * num_workers // batch_size)
    return max(_MIN_BATCHES_AHEAD, min(enough, within_memory))


def end_jobs(jobs: Iterable[Future[Any]]) -> None:
    """Cancels jobs, and waits for those that have begun."""
    wait([job for job in jobs if not job.cancel()])


def _collect_first(pending: deque[_Pending]) -> Rendered:
    """The oldest batch, once all its videos are done or have failed."""
    plan, buffers, jobs = pending[0]
    times = WorkTimes()
    errors: dict[int, DecodeError | ShardError] = {}
    for b, job in jobs.items():
        try:
            times += job.result()
        except (DecodeError, ShardError) as error:
            errors[b] = error
            for array in buffers:
                array[b] = 0
    pending.popleft()
    return Rendered(plan=plan, views=buffers, errors=errors, times=times)
