"""Which videos keep their label when only a fraction of the labels may be used.

One design choice: hashes of the names give the order of the videos in a class, not a random draw
over a list. So two videos keep their order when others are added, removed or reordered, and a
smaller label fraction lies inside a larger one. The cost is that hashes balance only the classes,
not durations or groups.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from shards.errors import InputError


def seeded_ranks(keys: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """Each video's rank (0-based) among the videos of its class, in an order fixed by the seed.

    Args:
        keys: (N,) unique names.
        labels: (N,) integers.
        seed: Another seed gives an independent order.

    Returns:
        (N,) int64; within a class a permutation of 0..class size - 1. It depends only on (seed,
        key, label), not on the order of the rows.
    """
    order = sorted(
        range(len(keys)), key=lambda row: (int(labels[row]), _hash(seed, keys[row]), keys[row])
    )
    ranks = np.zeros(len(keys), dtype=np.int64)
    rank, previous = 0, None
    for row in order:
        label = int(labels[row])
        rank = rank + 1 if label == previous else 0
        previous = label
        ranks[row] = rank
    return ranks


def label_fraction(
    keys: Sequence[str],
    labels: np.ndarray,
    percent: float,
    seed: int,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """Which videos keep their label when only `percent` percent of them may.

    Every class gives the same share, rounded to the nearest count, but at least one video. For one
    seed the result for a smaller percentage is a subset of that for a larger one.

    Args:
        keys: (N,) unique names.
        labels: (N,) integers.
        percent: In (0, 100].
        seed: Another seed gives an independent choice.
        groups: (N,) names. Within a class, either all videos of a group are labelled or none is,
            and each class gives as many groups as it needs to reach its share. A video whose group
            is "" is a group by itself.

    Returns:
        (N,) bool, True = labelled; it does not depend on the order of the rows.

    Raises:
        InputError: `percent` is outside (0, 100], or two keys are equal.
    """
    if not 0 < percent <= 100:
        raise InputError(f"label fraction {percent} %: give a percentage above 0 and up to 100")
    if len(set(keys)) != len(keys):
        raise InputError("label fraction: keys repeat; give each video its own key")
    if len(keys) == 0:
        return np.zeros(0, dtype=bool)
    _, class_of_row, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    # floor(x + 0.5), not round(): Python rounds halves to even, which would surprise in a table.
    wanted = np.maximum(1, np.floor(class_sizes * percent / 100 + 0.5)).astype(np.int64)
    ranks = seeded_ranks(keys, labels, seed)
    if groups is not None:
        ranks = _first_in_group(ranks, keys, labels, groups, seed)
    labelled: np.ndarray = ranks < wanted[class_of_row]
    return labelled


def _first_in_group(
    ranks: np.ndarray, keys: Sequence[str], labels: np.ndarray, groups: Sequence[str], seed: int
) -> np.ndarray:
    """For each video, how many videos of its class come before its group in a seeded order."""
    names = [f"group {g}" if g else f"video {k}" for g, k in zip(groups, keys, strict=True)]
    order = sorted(
        range(len(keys)),
        key=lambda row: (int(labels[row]), _hash(seed, names[row]), names[row], int(ranks[row])),
    )
    first = np.zeros_like(ranks)
    start, place, previous = 0, 0, (-1, "")
    for row in order:
        current = (int(labels[row]), names[row])
        place = place + 1 if current[0] == previous[0] else 0
        start = start if current == previous else place
        previous = current
        first[row] = start
    return first


def _hash(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()
