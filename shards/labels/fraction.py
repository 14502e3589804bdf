"""Who is in which split, and whose labels count.

One design choice: membership is decided by hashing names, never by drawing along a list. A video
keeps its place when others are added, removed or reordered, and a smaller label fraction lies
inside a larger one. The cost: hashes cannot balance anything but the classes (not durations, not
groups).
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from shards.errors import InputError

_UCF101_GROUPS_PER_TEST_LIST = 7


def ucf101_splits(group: int) -> tuple[str, str, str]:
    """Membership of one UCF101 group in the official splits 1, 2 and 3.

    The official lists are a rule on the group number in the file name (v_Class_gNN_cNN.avi): test
    lists 1, 2, 3 hold groups 1-7, 8-14, 15-21; each train list holds the rest.

    Args:
        group: the number after `_g`, 1 to 25.

    Raises:
        InputError: the group is not in 1..25.
    """
    if not 1 <= group <= 25:
        raise InputError(f"UCF101 group {group}: groups run from 1 to 25; check the file names")
    test_list = (group - 1) // _UCF101_GROUPS_PER_TEST_LIST
    one, two, three = ("test" if test_list == number else "train" for number in range(3))
    return one, two, three


def seeded_ranks(keys: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """Each video's rank (0-based) among the videos of its class, in an order fixed by the seed.

    Args:
        keys: unique names, N of them.
        labels: int array [N].
        seed: another seed gives an independent order.

    Returns:
        int64 array [N]; within a class a permutation of 0..class size - 1. Depends on (seed, key,
        label) only, not on the order of the rows.
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
    """Which videos keep their label when only `percent` of them may.

    Stratified by class and rounded to the nearest count per class, at least one per class. For
    one seed the result for a smaller percentage is a subset of that for a larger one.

    Args:
        keys: unique names, N of them.
        labels: int array [N].
        percent: in (0, 100].
        seed: the draw.
        groups: N names; within a class, videos of one group are then all labelled or none is, and
            each class gives as many groups as it takes to reach its share. "" is a group of one.

    Returns:
        bool array [N], True = labelled; independent of the order of the rows.

    Raises:
        InputError: percent is outside (0, 100], or keys repeat.
    """
    if not 0 < percent <= 100:
        raise InputError(f"label fraction {percent} %: give a percentage above 0 and up to 100")
    if len(set(keys)) != len(keys):
        raise InputError("label fraction: the keys repeat; every video needs a name of its own")
    if len(keys) == 0:
        return np.zeros(0, dtype=bool)
    _, class_of_row, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    # floor(x + 0.5), not round(): Python rounds halves to even, which surprises in a table.
    wanted = np.maximum(1, np.floor(class_sizes * percent / 100 + 0.5)).astype(np.int64)
    ranks = seeded_ranks(keys, labels, seed)
    if groups is not None:
        ranks = _first_in_group(ranks, keys, labels, groups, seed)
    labelled: np.ndarray = ranks < wanted[class_of_row]
    return labelled


def _first_in_group(
    ranks: np.ndarray, keys: Sequence[str], labels: np.ndarray, groups: Sequence[str], seed: int
) -> np.ndarray:
    """For each video how many of its class come before its group, in a seeded order of groups."""
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
