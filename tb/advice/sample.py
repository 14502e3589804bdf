"""Some videos that stand for all of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from shards.errors import InputError
from shards.format.splits import SplitName
from shards.sources.source import Dataset, Source


@dataclass(frozen=True, kw_only=True)
class VideoSample:
    """A part of a data set, and the size of the whole set.

    Attributes:
        dataset: The sampled videos, all in the train split.
        num_videos: How many videos the whole set has, without refused ones (`Source.refusal`).
        num_bytes: The size of their files.
    """

    dataset: Dataset
    num_videos: int
    num_bytes: int

    def source_bytes(self) -> int:
        """The size of the sampled files, including those that cannot be used."""
        return _num_bytes(self.dataset.sources)

    def without(self, keys: set[str]) -> Dataset:
        """The sample without some of its videos."""
        left = tuple(source for source in self.dataset.sources if source.key not in keys)
        return replace(self.dataset, sources=left)


def draw_sample(dataset: Dataset, num_videos: int) -> VideoSample:
    """Takes one video from each of `num_videos` stretches of the set, which is sorted by path.

    So the sample has videos from all parts of the set. A digest of the keys decides which video of
    a stretch is taken, so the same set gives the same sample.

    Raises:
        InputError: There is no video to take, a video is a segment of a file, or `num_videos` is
            below 1.
    """
    if num_videos < 1:
        raise InputError(f"videos is {num_videos} (--videos): give 1 or more")
    if any(source.segment is not None for source in dataset.sources):
        raise InputError(
            f"{dataset.name}: has segments, but recipes are tried on whole files: give a table"
            " without start_s and end_s"
        )
    sources = [source for source in dataset.sources if not source.refusal]
    if not sources:
        raise InputError(f"{dataset.root}: there are no videos to try")
    num = min(num_videos, len(sources))
    bounds = [index * len(sources) // num for index in range(num + 1)]
    chosen = [min(sources[begin:end], key=_digest) for begin, end in pairwise(bounds)]
    in_train = tuple(replace(source, splits=(SplitName.TRAIN,)) for source in chosen)
    return VideoSample(
        dataset=replace(dataset, sources=in_train, missing=()),
        num_videos=len(sources),
        num_bytes=_num_bytes(sources),
    )


def _digest(source: Source) -> str:
    return hashlib.sha256(source.key.encode()).hexdigest()


def _num_bytes(sources: Sequence[Source]) -> int:
    # A file that no longer exists counts as empty.
    return sum(max(source.num_bytes, 0) for source in sources)
