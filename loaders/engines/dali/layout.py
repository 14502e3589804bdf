"""The layout of work in DALI: how many pipelines, how many batches in each, and what makes views.

One pipeline may keep only one of a GPU's video decoders busy (NVIDIA/DALI#6387), and each further
pipeline costs memory. The best number depends on the GPU, the videos and the views, so layouts can
be tried (`trials`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from shards.errors import InputError, one_of

# A layout that is slower by less than this share counts as equally fast; the smaller one is chosen.
_TOLERANCE = 0.05


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
        views: What makes the views: a `DaliViews`, or its name: "operators" or "kernel".
    """

    num_pipelines: int
    depth: int
    views: DaliViews | str = DaliViews.OPERATORS

    def __post_init__(self) -> None:
        if self.num_pipelines < 1 or self.depth < 1:
            raise InputError(
                f"num_pipelines={self.num_pipelines}, depth={self.depth}: both must be 1 or more"
            )
        object.__setattr__(self, "views", one_of(DaliViews, "views", self.views))

    @property
    def num_batches(self) -> int:
        """Batches in flight at once."""
        return self.num_pipelines * self.depth


@dataclass(frozen=True, kw_only=True)
class TryLayouts:
    """Try a few layouts on the loader's own videos, which takes some seconds, and keep the best.

    Attributes:
        gpu_memory_mb: Layouts that take more of the GPU's memory are left out; None for no limit.
    """

    gpu_memory_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One measured layout; `gpu_memory_mb` is the increase of the memory in use."""

    layout: DaliLayout
    videos_per_s: float
    gpu_memory_mb: float


def triton_is_installed() -> bool:
    """Whether `triton` can be imported; does not import it."""
    return find_spec("triton") is not None


def candidates(
    num_decoders: int, views: Sequence[DaliViews] = (DaliViews.OPERATORS,)
) -> list[DaliLayout]:
    """Layouts to try on a GPU with that many video decoders, in ascending order of memory."""
    pipelines = sorted({1, 2, 4, num_decoders} & set(range(1, max(num_decoders, 2) + 1)))
    layouts = [
        DaliLayout(num_pipelines=n, depth=depth, views=maker)
        for n in pipelines
        for depth in (1, 2)
        for maker in views
    ]
    # The kernel takes less memory than the operators.
    return sorted(layouts, key=lambda layout: (layout.num_batches, layout.views, layout))


def choose(trials: Sequence[Trial], gpu_memory_mb: float | None) -> DaliLayout:
    """The smallest layout within the memory limit that is as fast as the fastest one.

    Raises:
        InputError: No layout keeps to the limit.
    """
    fitting = [t for t in trials if gpu_memory_mb is None or t.gpu_memory_mb <= gpu_memory_mb]
    if not fitting:
        raise InputError(
            f"gpu_memory_mb is {gpu_memory_mb:g}: the smallest layout of the loader takes "
            f"{trials[0].gpu_memory_mb:.0f} MB; allow more, or give a smaller batch_size, size_px "
            "or dtype"
        )
    fast = (1 - _TOLERANCE) * max(trial.videos_per_s for trial in fitting)
    return next(trial.layout for trial in fitting if trial.videos_per_s >= fast)
