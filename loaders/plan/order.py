"""The order of an epoch, and batches as arithmetic on positions.

The stream of a training run joins the permutations of its epochs end to end. The batch at step k is
the k-th slice of the stream. So a step number is the whole state of a stream, for any number of
ranks.

With several clips per video, the windows of an epoch take the place of its videos here (see
`loaders.plan.planner`).
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import lru_cache
from itertools import count
from typing import Literal, NamedTuple

import numpy as np

# Second word of the Philox key: it separates the draws of the order from those of augmentation.
_ORDER_KEY = 1
WINDOW_SHARDS = 8
"""A windowed order mixes this many shards. They separate neighbours and fit into the page cache."""


class Order(StrEnum):
    """How an epoch is shuffled."""

    GLOBAL = "global"
    """Any permutation is equally likely."""
    WINDOWED = "windowed"
    """The shards are shuffled, then the videos within each 8 consecutive shards. So only 8 shards
    are read at any time, and neighbours in a shard stay within a window of each other."""
    MANIFEST = "manifest"
    """Videos come in the order of the shards."""


ShuffledOrder = Literal["global", "windowed"]
"""The orders that a user may name. `Order.MANIFEST` has no name there: it means no shuffling."""


def epoch_order(
    num_videos: int,
    *,
    seed: int,
    epoch: int,
    order: Order = Order.GLOBAL,
    shards: np.ndarray | None = None,
) -> np.ndarray:
    """A permutation of range(num_videos), int64; a shuffled one differs from epoch to epoch.

    Args:
        num_videos: N.
        seed: The seed, in [0, 2**63).
        epoch: The epoch, from 0.
        order: How to shuffle.
        shards: (N,) the shard of each video; only for `Order.WINDOWED`.
    """
    if order == Order.MANIFEST:
        return np.arange(num_videos)
    key = np.array([seed, _ORDER_KEY], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    if order == Order.GLOBAL:
        return generator.permutation(num_videos)
    if shards is None:
        raise ValueError("a windowed order needs the videos' shards")
    _, shard = np.unique(shards, return_inverse=True)
    place_of_shard = generator.permutation(int(shard.max(initial=-1)) + 1)
    window = place_of_shard[shard] // WINDOW_SHARDS
    # The whole part of a sort key is the window, and the rest is a random place in it.
    return np.argsort(window + generator.random(num_videos), kind="stable")


class ShardUse(NamedTuple):
    """The steps of the first and the last batch that shows a video of a shard."""

    shard: int
    first: int
    last: int


def shard_uses(
    shards: np.ndarray,
    order: np.ndarray,
    *,
    begin: int = 0,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> list[ShardUse]:
    """When one rank uses the shards of an epoch, in the order of their first videos.

    Args:
        shards: (N,) the shard of each video, from 0.
        order: (N,) the order of the epoch.
        begin: How many videos of a stream come before this epoch; 0 for an epoch by itself.
        batch_size: Videos per batch and rank.
        rank: The rank.
        world_size: The number of ranks.
    """
    slices = (begin + np.arange(len(order))) // batch_size
    is_ours = slices % world_size == rank
    steps, used = slices[is_ours] // world_size, shards[order[is_ours]]
    places = np.arange(len(used))
    first = np.full(int(shards.max(initial=-1)) + 1, -1)
    last = first.copy()
    # If an index occurs several times, NumPy keeps the value that is assigned last.
    first[used[::-1]], last[used] = places[::-1], places
    there = np.flatnonzero(first >= 0)
    there = there[np.argsort(first[there])]
    columns = (there, steps[first[there]], steps[last[there]])
    return [ShardUse(*row) for row in np.stack(columns, axis=1).tolist()]


def num_batches(num_videos: int, *, batch_size: int, world_size: int = 1) -> int:
    """Batches per epoch and rank, including the padded last one."""
    return -(-num_videos // (batch_size * world_size))


def epoch_batches(
    epoch: int,
    order_of: Callable[[int], np.ndarray],
    *,
    start: int = 0,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[np.ndarray]:
    """The batches of one rank in an epoch from batch `start` on.

    Ranks take neighbouring slices of one global batch, so that a global batch does not depend on
    how many ranks share it.

    Args:
        epoch: The epoch, from 0.
        order_of: Gives the order of an epoch.
        start: The first batch, from 0.
        batch_size: Videos per batch and rank.
        rank: The rank.
        world_size: The number of ranks.

    Yields:
        (batch_size,) int64 positions, -1 past the end of the epoch.
    """
    order = order_of(epoch)
    for index in range(
        start, num_batches(len(order), batch_size=batch_size, world_size=world_size)
    ):
        first = (index * world_size + rank) * batch_size
        taken = order[first : first + batch_size]
        yield np.concatenate([taken, np.full(batch_size - len(taken), -1, dtype=np.int64)])


def stream_batches(
    num_videos: int,
    order_of: Callable[[int], np.ndarray],
    *,
    start: int = 0,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of one rank in the endless stream from step `start` on.

    Nothing is padded or dropped. A batch may hold the end of one epoch and the start of the next,
    and every video still comes exactly once per epoch. The arguments are as in `epoch_batches`.

    Yields:
        ((batch_size,) int64 positions, (batch_size,) int64 epochs).
    """
    if num_videos < 1:
        raise ValueError("an empty set has no stream")
    # If the set is larger than a batch, a batch spans at most two epochs.
    kept_order_of = lru_cache(maxsize=2)(order_of)
    for step in count(start):
        first = (step * world_size + rank) * batch_size
        epochs, offsets = np.divmod(np.arange(first, first + batch_size), num_videos)
        positions = np.empty(batch_size, dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            positions[chosen] = kept_order_of(int(epoch))[offsets[chosen]]
        yield positions, epochs
