"""The plans in their order: those of an epoch, of the endless stream, or of any rows.

A planner is arithmetic on (seed, epoch, position). It reads no video and keeps no state, so a run
has to remember only its position.

An epoch has `clips_per_video` windows of each video. The order of an epoch is that of its windows:
window n is clip n % clips_per_video of video n // clips_per_video. Each clip has its own draws, and
the draws of clip 0 are the same for any `clips_per_video`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from loaders.plan.draw import Plan, check_seed, draw_plan
from loaders.plan.order import (
    Order,
    ShardUse,
    epoch_batches,
    epoch_order,
    num_batches,
    shard_uses,
    stream_batches,
)
from loaders.plan.views import Start, ViewSpec
from loaders.plan.window import check_stride_s
from shards.errors import InputError
from shards.format.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Planner:
    """The plans of one rank.

    Attributes:
        manifest: The manifest of the shards.
        rows: (N,) int64 manifest rows that are served.
        spec: The views.
        batch_size: Videos per batch and rank.
        order: How an epoch is shuffled.
        seed: The seed of order and augmentation, in [0, 2**63).
        rank: This process's place among `world_size`.
        world_size: Processes that share each global batch.
        clips_per_video: Windows of each video in an epoch; more than one only for a random start.
    """

    manifest: Manifest
    rows: np.ndarray
    spec: ViewSpec
    batch_size: int
    order: Order
    seed: int
    rank: int
    world_size: int
    clips_per_video: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}: give 1 or more")
        check_seed(self.seed)
        if not 0 <= self.rank < self.world_size:
            raise InputError(
                f"rank is {self.rank} and world_size is {self.world_size}: give a rank from 0 to "
                "world_size - 1"
            )
        if self.clips_per_video < 1:
            raise InputError(f"clips_per_video is {self.clips_per_video}: give 1 or more")
        if self.clips_per_video > 1 and self.spec.start != Start.RANDOM:
            raise InputError(
                f"clips_per_video is {self.clips_per_video}, but the views {self.spec.name} always"
                " show the same place of a video: leave it out"
            )
        if self.spec.stride_s is not None:
            fps = self.manifest.fps[self.rows]
            slowest = int(fps.argmin())
            key = self.manifest.video(int(self.rows[slowest])).key
            check_stride_s(self.spec, float(fps[slowest]), repr(key))

    @property
    def num_windows(self) -> int:
        """Windows of an epoch, over all ranks: `clips_per_video` of each video."""
        return len(self.rows) * self.clips_per_video

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return self._num_batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Plan]:
        """The plans of one epoch from batch `start` on; the loader checks both numbers."""
        batches = epoch_batches(epoch, self._order, start=start, **self._share)
        for positions in batches:
            yield self._plan_at(positions, np.full(len(positions), epoch))

    def stream(self, start: int = 0) -> Iterator[Plan]:
        """The plans of the endless stream from step `start` on; the loader checks the number."""
        batches = stream_batches(self.num_windows, self._order, start=start, **self._share)
        for positions, epochs in batches:
            yield self._plan_at(positions, epochs)

    def uses_of_epoch(self, epoch: int, start: int = 0) -> Iterator[ShardUse]:
        """The shards of `epoch(epoch, start)` in the order of their first use; steps are batches.

        A shard may have been used before `start` too.
        """
        yield from (use for use in self._uses(epoch, begin=0) if use.last >= start)

    def uses_of_stream(self, start: int = 0) -> Iterator[ShardUse]:
        """The same for `stream(start)`; a shard comes once for each epoch."""
        epoch = start * self.world_size * self.batch_size // self.num_windows
        while True:
            uses = self._uses(epoch, begin=epoch * self.num_windows)
            yield from (use for use in uses if use.last >= start)
            epoch += 1

    def plan(self, rows: np.ndarray, epochs: np.ndarray, clips: np.ndarray | None = None) -> Plan:
        """The plan of any (B,) manifest rows in their (B,) epochs; row -1 is padding.

        `clips` are the (B,) numbers of the clips among those of their videos; None: all are 0.
        """
        return draw_plan(
            self.spec,
            rows=rows,
            epochs=epochs,
            num_frames=self.manifest.num_frames[rows],
            heights=self.manifest.heights[rows],
            widths=self.manifest.widths[rows],
            seed=self.seed,
            clips=clips,
            fps=None if self.spec.stride_s is None else self.manifest.fps[rows],
        )

    @cached_property
    def _num_batches(self) -> int:
        return num_batches(self.num_windows, batch_size=self.batch_size, world_size=self.world_size)

    @property
    def _share(self) -> dict[str, int]:
        """What this rank takes of each global batch."""
        return {
            "batch_size": self.batch_size,
            "rank": self.rank,
            "world_size": self.world_size,
        }

    def _plan_at(self, positions: np.ndarray, epochs: np.ndarray) -> Plan:
        """The plan of (B,) windows by their numbers in the epoch; -1 is padding."""
        videos, clips = np.divmod(positions, self.clips_per_video)
        is_there = positions >= 0
        rows = np.where(is_there, self.rows[videos], -1)
        return self.plan(rows, epochs, np.where(is_there, clips, 0))

    def _uses(self, epoch: int, *, begin: int) -> list[ShardUse]:
        return shard_uses(self._shards(), self._order(epoch), begin=begin, **self._share)

    def _order(self, epoch: int) -> np.ndarray:
        shards = self._shards() if self.order == Order.WINDOWED else None
        return epoch_order(
            self.num_windows, seed=self.seed, epoch=epoch, order=self.order, shards=shards
        )

    def _shards(self) -> np.ndarray:
        """(num_windows,) int64 the shard of each window."""
        return np.repeat(self.manifest.shard_index[self.rows], self.clips_per_video)
