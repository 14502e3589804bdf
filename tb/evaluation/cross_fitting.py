"""What linear probes say about labelled videos that they have not learned from.

The labelled videos are divided into folds. The probe that judges the videos of a fold learns from
all other videos. So each prediction is made without the video's own label, as for an unlabelled
video. The probes need only the labels of training.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shards.labels.fraction import seeded_ranks
from tb.evaluation.probe_defaults import DEFAULT_L2
from tb.evaluation.probes import linear_probabilities

NUM_FOLDS = 5
NO_FOLD = -1
"""The fold of the only video of its class: no other video can teach a probe this class."""


def fold_numbers(keys: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each video; the videos of a class are spread evenly over the folds.

    Videos of one group (takes of one scene) may be in different folds. So a probe may learn from
    one video of a group and judge another. This is intended, because a teacher too may learn from a
    labelled video of a group and judge an unlabelled one.

    Args:
        keys: (N,) unique names.
        labels: (N,) int64.
        seed: Seeds the choice of the folds.

    Returns:
        (N,) int64 in [0, NUM_FOLDS), or `NO_FOLD`. It depends only on (seed, key, label) and on the
        other videos of the class, not on the order.
    """
    # Small classes begin at different folds, so that all folds have about the same size.
    folds = (seeded_ranks(keys, labels, seed) + labels) % NUM_FOLDS
    is_alone = np.bincount(labels)[labels] == 1
    return np.where(is_alone, NO_FOLD, folds)


def held_out_probabilities(
    vectors: Tensor,
    labels: Tensor,
    folds: np.ndarray,
    num_classes: int,
    *,
    l2: float = DEFAULT_L2,
) -> Tensor:
    """Each video's prediction by a linear probe that learned from all videos outside its fold.

    Args:
        vectors: (N, C) float32 features.
        labels: (N,) int64 in [0, K).
        folds: (N,) as `fold_numbers` gives them.
        num_classes: K.
        l2: The probe's penalty (see `tb.evaluation.probes.fit_logistic`).

    Returns:
        (N, K) float64 rows that sum to 1; NaN for videos without a fold.
    """
    found = torch.full((len(labels), num_classes), float("nan"), dtype=torch.float64)
    for fold in np.unique(folds[folds != NO_FOLD]).tolist():
        is_held_out = torch.from_numpy(folds == fold)
        found[is_held_out] = linear_probabilities(
            vectors[is_held_out], vectors[~is_held_out], labels[~is_held_out], num_classes, l2=l2
        ).double()
    return found
