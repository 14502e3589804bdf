"""Measures where a loader's time goes, and says what to change."""

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Event

import torch

from loaders.batch import Batch
from loaders.engines.engine import WorkTimes

# If the consumer waits for less than this share of the time, the loader keeps up.
_KEEPS_UP = 0.05
# If a training keeps less than this share of its launches, the report says what to change.
_IS_KEPT = 0.9
_TAKES_LAUNCHES = {
    True: "in_process=False (a run's machine.in_process) moves the loader to a process of its own, "
    "and fewer workers leave the training more of the cores",
    False: "fewer workers leave the training more of the cores, and in larger batches it receives "
    "fewer of them",
}
_LAUNCHES_S = 0.3  # seconds for which launches are counted
_ADVICE = {
    "consumer-bound": "the loader keeps up: only a faster step gains anything",
    "read-bound": "storage is slow: order='windowed' (a run's machine.order), a local disk, or "
    "smaller videos (`tb shard --short-side`)",
    "decode-bound": "more workers where there are cores, else videos that decode faster: a smaller "
    "--short-side or a shorter --gop in `tb shard`",
    "augment-bound": "more workers where there are cores, else a smaller size_px, fewer views, or "
    "dtype='uint8'",
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Times of a run of batches.

    Attributes:
        num_videos: How many videos were served.
        wall_s: Seconds from the request for the first batch to the end of the last step.
        wait_s: Seconds during which the consumer waited for batches, a part of `wall_s`.
        times: Seconds that the worker threads spent in reading, decoding and augmenting. With
            several workers their sum may exceed `wall_s`.
        trainer_kept: The small operations per second that a thread of this process launches beside
            the loader at full speed, divided by those that it launches alone. More than 1 is noise.
            The lost share slows down each step of a training, even if no step waits for a batch.
        in_process: Whether the loader's threads are in this process, as in `open_loader`.
    """

    num_videos: int
    wall_s: float
    wait_s: float
    times: WorkTimes
    trainer_kept: float = 1.0
    in_process: bool = True

    @property
    def videos_per_s(self) -> float:
        """The throughput with this consumer."""
        return self.num_videos / self.wall_s

    @property
    def verdict(self) -> str:
        """One of "consumer-bound", "read-bound", "decode-bound" and "augment-bound"."""
        if self.wait_s < _KEEPS_UP * self.wall_s:
            return "consumer-bound"
        seconds = {
            "read-bound": self.times.read_s,
            "decode-bound": self.times.decode_s,
            "augment-bound": self.times.augment_s,
        }
        return max(seconds, key=lambda name: seconds[name])

    @property
    def advice(self) -> str:
        """What to change, in one sentence."""
        return _ADVICE[self.verdict]

    def __str__(self) -> str:
        per_video_ms = 1000 / max(self.num_videos, 1)
        return (
            f"{self.videos_per_s:.1f} videos/s; per video and worker: "
            f"read {self.times.read_s * per_video_ms:.1f} ms, "
            f"decode {self.times.decode_s * per_video_ms:.1f} ms, "
            f"augment {self.times.augment_s * per_video_ms:.1f} ms; "
            f"waited {self.wait_s / self.wall_s:.0%} of the time\n"
            f"{self.verdict}: {self.advice}\n"
            f"a training beside it keeps {min(self.trainer_kept, 1):.0%} of its launches"
            f"{'' if self.trainer_kept > _IS_KEPT else ': ' + _TAKES_LAUNCHES[self.in_process]}"
        )


def profile_batches(
    batches: Iterator[Batch], num_batches: int, step: Callable[[Batch], object] | None = None
) -> Profile:
    """Times `num_batches` batches after one warm-up batch; `step` is the consumer's work."""
    step = step or (lambda _: None)
    step(next(batches))
    num_videos, wait_s, times = 0, 0.0, WorkTimes()
    began_s = time.perf_counter()
    for _ in range(num_batches):
        asked_s = time.perf_counter()
        batch = next(batches)
        wait_s += time.perf_counter() - asked_s
        num_videos += int(batch.valid.sum())
        times += batch.times
        step(batch)
    return Profile(
        num_videos=num_videos,
        wall_s=time.perf_counter() - began_s,
        wait_s=wait_s,
        times=times,
    )


def profile_stream(
    stream: Callable[[], Generator[Batch]],
    num_batches: int,
    step: Callable[[Batch], object] | None = None,
    *,
    in_process: bool,
) -> Profile:
    """`profile_batches` of an endless stream, and what the loader costs a training beside it.

    `in_process` is as in `Profile`.
    """
    alone = _launches_per_s()
    with closing(stream()) as batches:
        profile = profile_batches(batches, num_batches, step)
        kept = _launches_per_s_beside(batches) / alone
        return replace(profile, trainer_kept=kept, in_process=in_process)


def _launches_per_s() -> float:
    """Small operations that this thread launches on the CPU per second."""
    a, b = torch.rand(2, 64, 64)
    _ = a @ b  # the first product of a process also starts threads
    began_s, number = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - began_s) < _LAUNCHES_S:
        _ = a @ b
        number += 1
    return number / elapsed_s


def _launches_per_s_beside(batches: Iterator[Batch]) -> float:
    """Like `_launches_per_s`, while another thread takes the batches as fast as they come."""
    end = Event()

    def drain() -> None:
        while not end.is_set():
            next(batches)

    with ThreadPoolExecutor(1) as threads:
        drained = threads.submit(drain)
        try:
            number = _launches_per_s()
        finally:
            end.set()
        drained.result()  # raises what stopped the loader
    return number
