"""Which video comes when: an epoch's order, and batches as arithmetic on positions.

The stream of a training run is the epochs' permutations laid end to end; the batch at step k is the
stream's k-th slice. A step number is therefore the whole state of a loader, for any world size.
"""

import numpy as np

# Second word of the Philox key: keeps the order's draws apart from the augmentation's.
_ORDER_KEY = 1


def epoch_order(num_videos: int, *, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """A permutation of range(num_videos), int64; the identity without `shuffle`."""
    if not shuffle:
        return np.arange(num_videos)
    key = np.array([seed, _ORDER_KEY], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=np.array([0, 0, 0, epoch], dtype=np.uint64))
    return np.random.Generator(bits).permutation(num_videos)


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
    *,
    seed: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Step `step` of the endless stream: ((batch_size,) positions, (batch_size,) epochs).

    No padding and nothing dropped: a batch may hold the end of one epoch and the start of the
    next, and every video still comes exactly once per epoch.
    """
    if num_videos < 1:
        raise ValueError("an empty set has no stream")
    first = (step * world_size + rank) * batch_size
    places = np.arange(first, first + batch_size)
    epochs, offsets = np.divmod(places, num_videos)
    positions = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        order = epoch_order(num_videos, seed=seed, epoch=int(epoch), shuffle=shuffle)
        positions[chosen] = order[offsets[chosen]]
    return positions, epochs
