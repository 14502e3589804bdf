"""The engines' names, the `Engine` protocol, and `Rendered`, the pixels of one batch.

This file does not import torch, because that takes seconds and `fused` does not need it.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from loaders.decode import Footage
from loaders.plan.draw import Plan
from shards.decode.packet_decoder import DecodeError
from shards.reader import ShardError, ShardReader

if TYPE_CHECKING:
    import torch

RenderVideo = Callable[[Footage, Plan, int, list[np.ndarray]], float]
"""Renders one video on a CPU: (footage, plan, row of the plan, out) -> seconds.

It writes all views to `out`, one (V, T, S, S, 3) array for each group of views: uint8, or float32
or float16 in [0, 1] or normalised. It returns the seconds that augmentation took; the rest of the
call was decoding. It raises DecodeError if the bytes lack the planned frames.
"""


class EngineName(StrEnum):
    """The engines."""

    DALI = "dali"
    """NVDEC and DALI on a GPU; the same graph on a CPU, slowly."""
    FUSED = "fused"
    """Compiled code decodes windows with FFmpeg and makes each view in one pass, on the CPU."""
    REFERENCE = "reference"
    """PyAV, torchvision and plain torch, one operation per line: the oracle, slow."""

    @property
    def has_pipelines(self) -> bool:
        """Whether it makes views in pipelines. They run on the batches' device and have a layout.

        The other engines make views in threads on the CPU.
        """
        return self is EngineName.DALI


AUTO = "auto"
"""This stands for the engine that suits the machine and the videos."""


@dataclass(frozen=True, kw_only=True)
class WorkTimes:
    """Seconds that worker threads spent in reading, decoding and augmenting."""

    read_s: float = 0.0
    decode_s: float = 0.0
    augment_s: float = 0.0

    def __add__(self, other: "WorkTimes") -> "WorkTimes":
        return WorkTimes(
            read_s=self.read_s + other.read_s,
            decode_s=self.decode_s + other.decode_s,
            augment_s=self.augment_s + other.augment_s,
        )


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A batch's pixels.

    Attributes:
        plan: What was drawn.
        views: One (B, V, T, S, S, 3) array for each group of views; 0 where there is no video.
            `dali` gives tensors in place of arrays.
        errors: Row of the plan -> why that video is missing.
        times: Sums over the videos.
    """

    plan: Plan
    views: "list[np.ndarray] | list[torch.Tensor]"
    errors: dict[int, DecodeError | ShardError]
    times: WorkTimes


class Engine(Protocol):
    """Executes plans. It owns threads and decoders from its first run until it is closed."""

    @property
    def num_batches_ahead(self) -> int:
        """How many batches are in work after the collected one; their videos may still be read."""
        ...

    @property
    def synchronizes_gpu(self) -> bool:
        """Whether its own threads may wait for all work on a GPU at any time.

        No CUDA graph can be captured while they wait.
        """
        ...

    def memory_mb(self) -> float:
        """MiB that a run will take where views are made, predicted before anything is taken."""
        ...

    def run(self, reader: ShardReader, plans: Iterator[Plan]) -> Generator[Rendered]:
        """Yields one `Rendered` per plan, in order. Closing the generator ends its work.

        Several runs may go on at the same time.
        """
        ...

    def close(self) -> None:
        """Gives back threads, decoders and pipelines. All runs must have ended."""
        ...
