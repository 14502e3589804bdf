"""`Prefetcher`: the next shards of a remote set are fetched while the current ones are read.

The order of an epoch is known in advance. It says when each shard is used first and last. In the
order "windowed" eight shards are read at a time, and the next eight are needed almost at once. So
they are fetched ahead. Where copies have a limit, a shard is fetched ahead only if it has room
beside those that are read now and those fetched before it.

In the order "global" nearly every shard is needed from the first batches to the last, so there is
nothing to fetch ahead.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from threading import Condition, Thread, current_thread

import numpy as np

from loaders.plan.draw import Plan
from loaders.plan.order import WINDOW_SHARDS, Order, ShardUse
from loaders.plan.planner import Planner
from shards.errors import InputError
from shards.files.cache_limit import cache_limit_bytes
from shards.reader import ShardReader

SHARDS_AHEAD = WINDOW_SHARDS
"""Shards that are fetched before they are needed: the whole next window of a windowed order."""
# Enough to keep a network connection busy; the threads that decode fetch too.
_NUM_THREADS = 2


class Prefetcher:
    """Gives a planner's plans, and fetches the shards that the next ones need.

    It has threads only while it gives plans of a remote set, and not for the order "global".
    """

    def __init__(self, planner: Planner, reader: ShardReader, *, num_batches_ahead: int) -> None:
        """Fetches nothing yet.

        Args:
            planner: Says which plan comes when.
            reader: Reads the shards.
            num_batches_ahead: See `Engine`.
        """
        self._planner, self._reader, self._num_batches_ahead = planner, reader, num_batches_ahead
        self._is_useful = reader.has_copies and planner.order != Order.GLOBAL
        self._is_open = True
        self._runs: list[_Iteration] = []
        self._threads: list[Thread] = []
        self._changed = Condition()  # held to read or change any of these

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Plan]:
        """See `Planner.epoch`."""
        plans = self._planner.epoch(epoch, start)
        if not self._is_useful:
            return plans
        return self._fetching(plans, self._planner.uses_of_epoch(epoch, start), start)

    def stream(self, start: int = 0) -> Iterator[Plan]:
        """See `Planner.stream`."""
        plans = self._planner.stream(start)
        if not self._is_useful:
            return plans
        return self._fetching(plans, self._planner.uses_of_stream(start), start)

    def close(self) -> None:
        """Gives back the threads, once the shards that they are fetching have arrived."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()

    def _fetching(
        self, plans: Iterator[Plan], uses: Iterator[ShardUse], start: int
    ) -> Iterator[Plan]:
        run = _Iteration(ahead=self._shards_ahead(uses), step=start)
        try:
            for step, plan in enumerate(plans, start):
                with self._changed:
                    if run.failure is not None:
                        raise run.failure
                    if step == start:
                        self._begin(run)
                    run.step = step
                    self._changed.notify_all()
                yield plan
        finally:
            with self._changed:
                if run in self._runs:  # it may not have begun
                    self._runs.remove(run)
                self._changed.notify_all()

    def _shards_ahead(self, uses: Iterator[ShardUse]) -> "ShardsAhead":
        limit_bytes = cache_limit_bytes()
        return ShardsAhead(
            uses,
            self._planner.manifest.shard_bytes,
            limit_bytes=math.inf if limit_bytes is None else limit_bytes,
            num_batches_ahead=self._num_batches_ahead,
        )

    def _begin(self, run: "_Iteration") -> None:
        self._runs.append(run)
        while self._is_open and len(self._threads) < _NUM_THREADS:
            # A program that ends does not wait for them.
            thread = Thread(target=self._work, name="prefetch", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._wait_for_job()) is not None:
            run, shard = job
            try:
                self._reader.fetch(shard, partial(self._is_needed, run, shard))
            except InputError:
                pass  # The read that needs the shard gets the same error, and knows the video.
            except Exception as error:
                run.failure = error

    def _is_needed(self, run: "_Iteration", shard: int) -> bool:
        """Whether a shard is still of use: a late fetch would bring back what was removed."""
        with self._changed:
            is_wanted = self._is_open and run in self._runs
            return is_wanted and run.ahead.is_held(shard, run.step)

    def _wait_for_job(self) -> "tuple[_Iteration, int] | None":
        """A run and the shard to fetch; None when there is nothing more to do.

        The thread then ends, because a waiting thread would keep a loader that nobody uses.
        """
        with self._changed:
            while self._is_open and self._runs:
                for run in self._runs:
                    shard = run.ahead.take(run.step)
                    if shard is not None:
                        # They count as used now: others may be needed by the time of the fetch.
                        self._reader.keep(run.ahead.held)
                        return run, shard
                self._changed.wait()
            if current_thread() in self._threads:
                self._threads.remove(current_thread())
        return None


class ShardsAhead:
    """Says which shard to fetch next.

    Attributes:
        held: Shard -> its use, for the shards that are read now and those that are fetched ahead.
    """

    def __init__(
        self,
        uses: Iterator[ShardUse],
        sizes: np.ndarray,
        *,
        limit_bytes: float,
        num_batches_ahead: int = 0,
    ) -> None:
        """Takes nothing yet.

        Args:
            uses: The uses of shards, by their first step.
            sizes: (number of shards,) bytes.
            limit_bytes: What the held shards may take together.
            num_batches_ahead: Steps for which a shard is held after its last use.
        """
        self._uses, self._sizes = uses, sizes
        self._limit_bytes, self._num_batches_ahead = limit_bytes, num_batches_ahead
        self._next = next(uses, None)
        self.held: dict[int, ShardUse] = {}

    def take(self, step: int) -> int | None:
        """A shard that is used first after `step` and has room; None if none may be fetched now.

        `step` must not become smaller from call to call. A shard that is needed at `step` is held
        and not returned, because the threads that read it fetch it at once.
        """
        self.held = {shard: use for shard, use in self.held.items() if self.is_held(shard, step)}
        while (use := self._next) is not None:
            is_needed = use.first <= step
            if not is_needed and not self._has_room(use.shard, step):
                return None
            self.held[use.shard] = use
            self._next = next(self._uses, None)
            if not is_needed:
                return use.shard
        return None

    def is_held(self, shard: int, step: int) -> bool:
        """Whether a shard of `held` is still held at a step."""
        return shard in self.held and self.held[shard].last >= step - self._num_batches_ahead

    def _has_room(self, shard: int, step: int) -> bool:
        num_ahead = sum(use.first > step for use in self.held.values())
        num_bytes = sum(int(self._sizes[one]) for one in {*self.held, shard})
        return num_ahead < SHARDS_AHEAD and num_bytes <= self._limit_bytes


@dataclass(kw_only=True, eq=False)
class _Iteration:
    """An iteration over plans.

    Attributes:
        ahead: Its shards.
        step: The number of its newest plan.
        failure: An error of the program, not of the shards, for the iteration to raise.
    """

    ahead: ShardsAhead
    step: int
    failure: Exception | None = None
