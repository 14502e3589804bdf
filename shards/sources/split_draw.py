"""`SplitDraw`: draws the videos for the test if neither folders nor lists give the splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.format.splits import SplitName
from shards.format.video import Video
from shards.labels.fraction import seeded_ranks


@dataclass(frozen=True)
class SplitDraw:
    """A seeded draw of "train" and "test".

    Attributes:
        test_percent: The share of each class that is for the test, in [0, 100). If it is above 0,
            each class gives at least one video to the test, but never all. So a class with one
            video gives none.
        seed: Another seed gives an independent draw.
    """

    test_percent: float
    seed: int

    def splits(
        self, keys: Sequence[str], labels: Sequence[int], before: Sequence[Video] = ()
    ) -> list[SplitName]:
        """The split of each new video.

        Args:
            keys: (N,) unique names of the new videos.
            labels: (N,) their labels.
            before: The videos that a finished set has. They keep their splits. A class gives as
                many of its new videos to the test as it then lacks of its share.
        """
        if not keys:
            return []
        num_classes = 1 + max(*labels, *(video.label for video in before), 0)
        new = np.array(labels)
        sizes, num_test = np.bincount(new, minlength=num_classes), np.zeros(num_classes, int)
        for video in before:
            sizes[video.label] += 1
            num_test[video.label] += SplitName.TEST in video.splits
        wanted = np.zeros(num_classes, int)
        if self.test_percent:
            # floor(x + 0.5), because round() takes halves to even numbers.
            shares = np.floor(sizes * self.test_percent / 100 + 0.5).astype(int)
            wanted = np.clip(shares, 1, sizes - 1)
        ranks = seeded_ranks(keys, new, self.seed)
        return [
            SplitName.TEST if rank < wanted[label] - num_test[label] else SplitName.TRAIN
            for rank, label in zip(ranks, labels, strict=True)
        ]
