"""Reads the videos of DALI's batches in threads, in this process or in the loader process.

It imports neither DALI nor torch, because both are slow to import.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
from av.video.frame import VideoFrame

from loaders.decode import check_file, decoded_frames
from loaders.engines.dali.samples import PackedBatch, Sample, SampleBatch
from loaders.engines.dali.window_file import window_file
from loaders.engines.engine import WorkTimes
from loaders.engines.threads import LOOKAHEAD_MB, TakeViews, end_jobs, num_batches_ahead
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from loaders.yuv import frame_to_rgb
from shards.format.manifest import Manifest
from shards.format.packets import Window
from shards.reader import ShardReader

# What a window's file has besides the window's packets: boxes, and for each frame its size and
# perhaps its number as a keyframe.
_BOXES_BYTES, _FRAME_BYTES = 1 << 16, 8


class SampleReader:
    """Reads videos in threads, and puts them into the form that DALI gets."""

    def __init__(
        self,
        *,
        is_bt709: np.ndarray,
        decodes: bool,
        batch_size: int,
        sample_bytes: int,
        num_workers: int,
        threads: ThreadPoolExecutor | None = None,
    ) -> None:
        """The threads start with the first video.

        Args:
            is_bt709: (number of rows in the manifest,) bool, whether the video is BT.709.
            decodes: Whether DALI decodes; otherwise PyAV does, and DALI gets pictures.
            batch_size: Largest number of videos in a plan.
            sample_bytes: See `max_sample_bytes`.
            num_workers: Number of threads.
            threads: The threads, if others share them. `close` leaves them alone.
        """
        self._is_bt709, self._decodes = is_bt709, decodes
        self.num_batches_ahead = num_batches_ahead(
            batch_size * sample_bytes, batch_size, num_workers, LOOKAHEAD_MB
        )
        self._is_shared = threads is not None
        self._threads = threads or ThreadPoolExecutor(num_workers, thread_name_prefix="loader")

    def batches(self, reader: ShardReader, plans: Iterator[Plan]) -> Generator[SampleBatch]:
        """Yields batches whose videos have been read, while later ones are still being read."""
        loading: deque[SampleBatch] = deque()  # oldest first
        try:
            for plan in plans:
                loading.append(self.begin(reader, plan))
                if len(loading) > self.num_batches_ahead:
                    loading[0].wait()
                    yield loading.popleft()
            while loading:
                loading[0].wait()
                yield loading.popleft()
        finally:
            end_jobs(job for batch in loading for job in batch.loading.values())

    def begin(self, reader: ShardReader, plan: Plan) -> SampleBatch:
        """Begins to read the videos of a plan."""
        rows = np.flatnonzero(plan.rows >= 0).tolist()
        loading = {b: self._threads.submit(self._load, reader, plan, b) for b in rows}
        return SampleBatch(plan=plan, loading=loading)

    def close(self) -> None:
        """Ends the threads."""
        if not self._is_shared:
            self._threads.shutdown(cancel_futures=True)

    def _load(self, reader: ShardReader, plan: Plan, b: int) -> Sample:
        began_s = time.perf_counter()
        row, frames = int(plan.rows[b]), np.unique(plan.frames[b])
        video = reader.read_frames(row, int(frames[0]), int(frames[-1]))
        read_s = time.perf_counter()
        first = 0
        if not self._decodes:
            decoded = decoded_frames(video, frames, int(plan.num_frames[b]), plan.sizes[b].tolist())
            pixels = rgb_pictures(decoded)
        elif isinstance(video, Window):
            pixels = np.frombuffer(window_file(video), np.uint8)
            first = video.byte_range.gop_frames[0]
        else:
            check_file(video, plan.sizes[b].tolist())
            pixels = np.frombuffer(video, np.uint8)
        return Sample(
            data=pixels,
            frames=frames.astype(np.int32),
            first=first,
            is_wrong_bt709=self._decodes and bool(self._is_bt709[row]),
            times=WorkTimes(read_s=read_s - began_s, decode_s=time.perf_counter() - read_s),
        )


class PackingReader:
    """Reads like `SampleReader`, and writes the samples of each batch to memory from the caller."""

    def __init__(self, samples: SampleReader) -> None:
        """Takes over the reader of samples."""
        self._samples = samples
        self.num_batches_ahead = samples.num_batches_ahead

    def run(
        self, reader: ShardReader, plans: Iterator[Plan], take: TakeViews
    ) -> Generator[PackedBatch]:
        """Yields the batches; `take` gives one (N,) uint8 array, in which a batch has room."""
        with closing(self._samples.batches(reader, plans)) as batches:
            for batch in batches:
                [memory] = take(batch.plan)
                yield batch.packed(memory)

    def memory_mb(self) -> float:
        """0, because the memory comes from the caller."""
        return 0.0

    def close(self) -> None:
        """Ends the threads."""
        self._samples.close()


def rgb_pictures(frames: Iterable[VideoFrame]) -> np.ndarray:
    """(T, H, W, 3) uint8, what DALI gets where it does not decode."""
    return np.stack([frame_to_rgb(frame) for frame in frames])


def max_sample_bytes(manifest: Manifest, rows: np.ndarray, spec: ViewSpec, *, decodes: bool) -> int:
    """Bytes that one sample of these rows takes at most; arguments as in `SampleReader`."""
    if decodes:
        frames = int(manifest.num_frames[rows].max())
        return int(manifest.sizes[rows].max()) + _BOXES_BYTES + _FRAME_BYTES * frames
    pictures = min(spec.num_views * spec.num_frames, int(manifest.num_frames[rows].max()))
    pixels = manifest.heights[rows].astype(np.int64) * manifest.widths[rows]
    return int(pixels.max()) * 3 * pictures
