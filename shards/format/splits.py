"""The parts of a split: which one a video is in, which are wanted, how many videos each has."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum


class SplitName(StrEnum):
    """The membership of a video in a split."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    UNUSED = ""

    @property
    def text(self) -> str:
        """The name, for people."""
        return str(self) or "unused"


class SplitQuery(StrEnum):
    """Which videos of a split are wanted: those of one membership, or of the pool.

    The pool is all that is not for validation or testing. The official lists of HMDB51 leave 1,666
    videos unused, and the papers on semi-supervised learning take these as unlabelled videos too.
    """

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    UNUSED = ""
    POOL = "pool"

    @property
    def memberships(self) -> tuple[SplitName, ...]:
        """The memberships of the videos that are wanted."""
        if self is SplitQuery.POOL:
            return (SplitName.TRAIN, SplitName.UNUSED)
        return (SplitName(self),)


def split_counts(memberships: Iterable[Sequence[str]]) -> tuple[dict[str, int], ...]:
    """For each split number {`SplitName.text`: number of videos}, without empty ones.

    Args:
        memberships: `Video.splits` of each video.
    """
    counts: list[Counter[str]] = []
    for splits in memberships:
        counts += [Counter() for _ in range(len(splits) - len(counts))]
        for count, split in zip(counts, splits, strict=False):
            count[SplitName(split).text] += 1
    return tuple(dict(sorted(count.items())) for count in counts)
