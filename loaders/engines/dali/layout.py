"""The layout of work in DALI: pipelines, batches and decoding threads, and what makes the views.

A pipeline decodes the videos of a batch side by side, one in each thread (NVIDIA/DALI#6387). So a
few pipelines with many threads keep all video decoders of a GPU busy. A thread waits for the
decoder most of the time, so there may be more threads than cores. The best numbers depend on the
GPU, the videos and the views, so layouts can be tried (`trials`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from importlib.util import find_spec

from shards.errors import InputError, one_of

# A layout that is slower by less than this share counts as equally fast; the smaller one is chosen.
_TOLERANCE = 0.05
# A part of the GPU that is in use for this share of the time is the limit.
_BUSY_PERCENT = 80.0
_PIPELINES, _DEPTHS = (1, 2, 4), (1, 2)
# On an H200, whose 7 decoders take h264, 16 threads of one pipeline keep them busy for 48 % of the
# time, and 32 threads of two pipelines for 78 % (bench/results/nvidia-h200.json).
_THREADS_PER_DECODER = (2, 4, 6)


class DaliViews(StrEnum):
    """What makes views of the decoded pictures; the views are the same up to rounding."""

    KERNEL = "kernel"
    """One Triton kernel. On a CPU it runs in Triton's interpreter, which takes minutes."""
    OPERATORS = "operators"
    """DALI's operators, one after the other."""


@dataclass(frozen=True, kw_only=True, order=True)
class DaliLayout:
    """Pipelines that take turns.

    Attributes:
        num_pipelines: How many there are.
        depth: Batches that each has in flight.
        num_threads: Threads of each, which decode. It has nothing to do with `num_workers`, the
            threads that read.
        views: What makes the views: a `DaliViews`, or its name: "operators" or "kernel".
    """

    num_pipelines: int
    depth: int
    num_threads: int = 16
    views: DaliViews | str = DaliViews.OPERATORS

    def __post_init__(self) -> None:
        if min(self.num_pipelines, self.depth, self.num_threads) < 1:
            raise InputError(
                f"num_pipelines={self.num_pipelines}, depth={self.depth}, "
                f"num_threads={self.num_threads}: all must be 1 or more"
            )
        object.__setattr__(self, "views", one_of(DaliViews, "views", self.views))

    @property
    def num_batches(self) -> int:
        """Batches in flight at once."""
        return self.num_pipelines * self.depth

    def __str__(self) -> str:
        kernel = " and the kernel" if self.views == DaliViews.KERNEL else ""
        numbers = f"{self.num_pipelines} pipelines x depth {self.depth}"
        return f"{numbers} x {self.num_threads} threads{kernel}"


_START = DaliLayout(num_pipelines=2, depth=2)


@dataclass(frozen=True, kw_only=True)
class TryLayouts:
    """Try a few layouts on the loader's own videos, which takes some seconds, and keep the best.

    Attributes:
        gpu_memory_mb: Layouts that take more of the GPU's memory are left out; None for no limit.
        views: What makes the views, as in `DaliLayout`. None: the faster of the two.
    """

    gpu_memory_mb: float | None = None
    views: DaliViews | str | None = None

    def __post_init__(self) -> None:
        if self.views is not None:
            object.__setattr__(self, "views", one_of(DaliViews, "views", self.views))


Layout = DaliLayout | TryLayouts | DaliViews
"""A layout, how to find one, or what makes the views in a usual one."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One measured layout.

    Attributes:
        layout: The layout.
        videos_per_s: Its throughput.
        gpu_memory_mb: The increase of the memory in use.
        decoder_percent: How busy the video decoders were; None if unknown.
        sm_percent: How busy the multiprocessors were; None if unknown.
    """

    layout: DaliLayout
    videos_per_s: float
    gpu_memory_mb: float
    decoder_percent: float | None = None
    sm_percent: float | None = None


def triton_is_installed() -> bool:
    """Whether `triton` can be imported; does not import it."""
    return find_spec("triton") is not None


class Axis(Enum):
    """What is varied, in this order."""

    THREADS = auto()
    PIPELINES = auto()
    DEPTH = auto()
    VIEWS = auto()


def usual_layout(
    num_decoders: int, batch_size: int, views: DaliViews = DaliViews.OPERATORS
) -> DaliLayout:
    """The layout for a GPU with that many video decoders, where none was tried."""
    num_threads = _num_threads(4 * num_decoders, _START.num_pipelines, batch_size)
    return replace(_START, num_threads=num_threads, views=views)


def variations(
    axis: Axis, layout: DaliLayout, num_decoders: int, batch_size: int
) -> list[DaliLayout]:
    """Layouts that differ from `layout` on one axis; `layout` may be one of them."""
    if axis is Axis.VIEWS:
        return [replace(layout, views=views) for views in DaliViews]
    number = layout.num_pipelines
    if axis is Axis.THREADS:
        totals = [n * num_decoders for n in _THREADS_PER_DECODER]
        threads = dict.fromkeys(_num_threads(total, number, batch_size) for total in totals)
        return [replace(layout, num_threads=n) for n in threads]
    if axis is Axis.PIPELINES:
        total = layout.num_threads * number  # all pipelines together keep their threads
        return [
            replace(layout, num_pipelines=n, num_threads=_num_threads(total, n, batch_size))
            for n in _PIPELINES
        ]
    return [replace(layout, depth=depth) for depth in _DEPTHS]


def _num_threads(total: int, num_pipelines: int, batch_size: int) -> int:
    # A thread decodes one video of a batch, so more threads than videos would have no work.
    return max(1, min(batch_size, -(-total // num_pipelines)))


def best_so_far(trials: Sequence[Trial], gpu_memory_mb: float | None) -> Trial:
    """The smallest layout within the limit that is nearly as fast as the fastest one there.

    If none keeps to the limit, it is the one with the least memory.
    """
    fitting = [t for t in trials if gpu_memory_mb is None or t.gpu_memory_mb <= gpu_memory_mb]
    if not fitting:
        return min(trials, key=lambda trial: trial.gpu_memory_mb)
    fast = (1 - _TOLERANCE) * max(trial.videos_per_s for trial in fitting)
    return min(
        (trial for trial in fitting if trial.videos_per_s >= fast),
        key=lambda trial: (trial.layout.num_batches, trial.layout),
    )


def choose(trials: Sequence[Trial], gpu_memory_mb: float | None) -> Trial:
    """As `best_so_far`, but the layout must keep to the limit.

    Raises:
        InputError: No layout keeps to the limit.
    """
    best = best_so_far(trials, gpu_memory_mb)
    if gpu_memory_mb is not None and best.gpu_memory_mb > gpu_memory_mb:
        raise InputError(
            f"gpu_memory_mb is {gpu_memory_mb:g}: the smallest layout of the loader takes "
            f"{best.gpu_memory_mb:.0f} MB; allow more, or give a smaller batch_size, size_px "
            "or dtype"
        )
    return best


def limit(trials: Sequence[Trial], chosen: Trial, gpu_memory_mb: float | None) -> str:
    """What keeps the chosen layout from being faster."""
    fastest = max(trials, key=lambda trial: trial.videos_per_s)
    if (1 - _TOLERANCE) * fastest.videos_per_s > chosen.videos_per_s:
        return f"gpu_memory_mb: {fastest.layout} gave {fastest.videos_per_s:.0f} videos/s"
    if chosen.decoder_percent is None or chosen.sm_percent is None:
        return "unknown, because nothing tells how busy the GPU was"
    if chosen.decoder_percent >= _BUSY_PERCENT:
        return f"the video decoders, {chosen.decoder_percent:.0f} % busy"
    if chosen.sm_percent >= _BUSY_PERCENT:
        return f"the GPU that makes the views, {chosen.sm_percent:.0f} % busy"
    return (
        f"the CPU or the storage: the video decoders were {chosen.decoder_percent:.0f} % busy, "
        f"the rest of the GPU {chosen.sm_percent:.0f} %"
    )
