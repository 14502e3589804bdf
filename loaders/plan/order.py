"""Which video comes when: an epoch's order, and batches as arithmetic on positions.

The stream of a training run is the epochs' permutations laid end to end, and the batch at step k is
the stream's k-th slice. So a step number is the whole state of a stream, for any world size.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np

# Second word of the Philox key: keeps the order's draws apart from the augmentation's.
_ORDER_KEY = 1
# Shards that a windowed order mixes: enough to separate neighbours, few enough for a page cache.
_WINDOW_SHARDS = 8


class Order(StrEnum):
    """How an epoch is shuffled."""

    GLOBAL = "global"
    """Any permutation is equally likely."""
    WINDOWED = "windowed"
    """The shards are shuffled, then the videos within each 8 consecutive shards. So only 8 shards
    are read at any time, and neighbours in a shard stay within a window of each other."""
    MANIFEST = "manifest"
    """Not at all: the videos come as they lie in the shards."""


def epoch_order(
    num_videos: int,
    *,
    seed: int,
    epoch: int,
    order: Order = Order.GLOBAL,
    shards: np.ndarray | None = None,
) -> np.ndarray:
    """A permutation of range(num_videos), int64, a new one each epoch.

    Args:
        num_videos: N.
        seed: In [0, 2**63).
        epoch: Counts from 0.
        order: How to shuffle.
        shards: (N,) the shard of each video; for `Order.WINDOWED`.
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
    window = place_of_shard[shard] // _WINDOW_SHARDS
    # One sort key: the window, and within it a random place.
    return np.argsort(window + generator.random(num_videos), kind="stable")


def num_batches(num_videos: int, *, batch_size: int, world_size: int = 1) -> int:
    """Batches per epoch and rank, the padded last one included."""
    return -(-num_videos // (batch_size * world_size))


def epoch_batch(
    order: np.ndarray, index: int, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> np.ndarray:
    """Batch `index` of one rank: (batch_size,) int64 positions, -1 where the epoch has run out.

    Ranks take neighbouring slices of one global batch, so that the global batch at `index` does
    not depend on how many ranks share it.
    """
    first = (index * world_size + rank) * batch_size
    taken = order[first : first + batch_size]
    return np.concatenate([taken, np.full(batch_size - len(taken), -1, dtype=np.int64)])


def stream_batch(
    num_videos: int,
    step: int,
    order_of: Callable[[int], np.ndarray],
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Step `step` of the endless stream: ((batch_size,) positions, (batch_size,) epochs).

    No padding and nothing dropped: a batch may hold the end of one epoch and the start of the
    next, and every video still comes exactly once per epoch. `order_of` gives an epoch's order.
    """
    if num_videos < 1:
        raise ValueError("an empty set has no stream")
    first = (step * world_size + rank) * batch_size
    epochs, offsets = np.divmod(np.arange(first, first + batch_size), num_videos)
    positions = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        positions[chosen] = order_of(int(epoch))[offsets[chosen]]
    return positions, epochs
