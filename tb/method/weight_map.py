"""From the similarity scores of videos to the invariant teacher's weight, for every rule."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from tb.stage_kinds import TeacherWeights

_MARGIN = 1e-3  # scores nearer to 0 or 1 count as this far away: 0 and 1 have no finite logit
_LIMIT = 7.0  # the bound of the weight's logit; sigmoid(7) is 0.999
# The steps go from the middle outwards, because the first of equally good places is taken.
_STEPS = np.array(sorted(np.linspace(-1, 1, 15), key=abs))
_ROUNDS, _ZOOM = 16, 3.5
_UNKNOWN = 0.5  # the weight of a video without a score


@dataclass(frozen=True, kw_only=True)
class WeightMap:
    """The calibrated rule: w = sigmoid(offset + slope logit(s)), which never falls as s rises.

    Offset 0 and slope 1 are the paper's rule, w = s (between 0.001 and 0.999). Slope 0 is one
    weight for all videos.

    Attributes:
        offset: The logit of the weight at s = 0.5.
        slope: 0 or more.
    """

    offset: float
    slope: float

    def __call__(self, scores: Tensor) -> Tensor:
        """The invariant teacher's weight, (N,) float64 in [0, 1], of (N,) scores; NaN stays."""
        return torch.sigmoid(self.offset + self.slope * _logit(scores))


HALF_EACH = WeightMap(offset=0.0, slope=0.0)


def target_weights(
    rule: TeacherWeights, scores: Tensor, calibrated: WeightMap = HALF_EACH
) -> Tensor:
    """The invariant teacher's weight for each video. A video without a score gets 0.5.

    Args:
        rule: Which weights; not "oracle", which is no function of the scores.
        scores: (N,) float32 similarity scores in [0, 1], or NaN.
        calibrated: The map of the rule "calibrated".

    Returns:
        (N,) float32 in [0, 1].
    """
    if rule.invariant_share is not None:
        return torch.full_like(scores, rule.invariant_share)
    if rule is TeacherWeights.STRETCHED:
        scores = stretch(scores)
    if rule is TeacherWeights.CALIBRATED:
        scores = calibrated(scores).float()
    return scores.nan_to_num(_UNKNOWN)


def stretch(scores: Tensor) -> Tensor:
    """Scores mapped linearly onto [0, 1]. NaN stays, and scores that are all equal become 0.5.

    Args:
        scores: (N,) in [0, 1], or NaN.
    """
    known = scores[~scores.isnan()]
    low, high = known.min(), known.max()
    return (scores - low) / (high - low) if high > low else scores - low + 0.5


def log_likelihood(label_probabilities: np.ndarray) -> np.ndarray:
    """(...,) the mean natural logarithm of (..., N) probabilities of labels; finite even for 0."""
    tiny = np.finfo(np.float64).tiny
    found: np.ndarray = np.log(np.maximum(label_probabilities, tiny)).mean(axis=-1)
    return found


def fit_weight_map(scores: Tensor, invariant: np.ndarray, distinctive: np.ndarray) -> WeightMap:
    """The map under which the mixtures give the labels the highest mean log-likelihood.

    The weight at the mean logit of the scores stays in [0.001, 0.999], and its logit changes by at
    most 7 for each standard deviation of the scores' logits. The paper's rule and every constant
    weight lie within these bounds, so the map is at least as good as these on the videos given. The
    search refines a grid around its best place, so machines agree except for rounding.

    Args:
        scores: (N,) similarity scores in [0, 1].
        invariant: (N,) the probability that the invariant teacher gives to the label.
        distinctive: (N,) the probability that the distinctive teacher gives to it.

    Returns:
        The map; with slope 0 if all scores are the same.
    """
    logits = _logit(scores).numpy()
    center, spread = float(logits.mean()), float(logits.std())
    if spread < 1e-9:
        spread = 0.0
    distances = (logits - center) / (spread or 1.0)

    def values(places: np.ndarray) -> np.ndarray:
        weight = 1 / (1 + np.exp(-places[:, :1] - places[:, 1:] * distances))
        return log_likelihood(weight * invariant + (1 - weight) * distinctive)

    candidates = np.array(
        [
            _highest(values, max_slope=_LIMIT if spread else 0.0),
            _highest(values, max_slope=0.0),
            (center, spread),  # the paper's rule
        ]
    )
    offset, slope = candidates[values(candidates).argmax()].tolist()
    slope = slope / spread if spread else 0.0
    return WeightMap(offset=offset - slope * center, slope=slope)


def _highest(values: Callable[[np.ndarray], np.ndarray], *, max_slope: float) -> np.ndarray:
    """The (offset, slope) of the highest value, on a grid that is refined round after round."""
    best, reach = np.zeros(2), _LIMIT
    for _ in range(_ROUNDS):
        offsets = np.clip(best[0] + reach * _STEPS, -_LIMIT, _LIMIT)
        # The dict removes the duplicates that clipping makes.
        slopes = dict.fromkeys(np.clip(best[1] + reach * _STEPS, 0, max_slope).tolist())
        places = np.array(list(product(offsets.tolist(), slopes)))
        best = places[values(places).argmax()]
        reach /= _ZOOM
    return best


def _logit(scores: Tensor) -> Tensor:
    return torch.logit(scores.double(), eps=_MARGIN)
