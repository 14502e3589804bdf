"""Reliability: does the confidence of predictions agree with how often they are right?"""

from dataclasses import dataclass

import numpy as np

NUM_BINS = 10


@dataclass(frozen=True, kw_only=True)
class ConfidenceBin:
    """The videos whose confidence (the largest probability) lies in (low, high].

    Attributes:
        low: In [0, 1).
        high: In (0, 1].
        num_videos: Their number.
        confidence: Their mean confidence; None without videos.
        right: The share of them whose most probable class is the label; None without videos.
    """

    low: float
    high: float
    num_videos: int
    confidence: float | None
    right: float | None


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A reliability curve.

    Attributes:
        bins: `NUM_BINS` bins of equal width.
        ece: The expected calibration error (Guo et al., ICML 2017): the mean over all videos of
            |confidence - right| of their bin, in [0, 1].
    """

    bins: list[ConfidenceBin]
    ece: float


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """The reliability of predictions.

    Args:
        probabilities: (N, K) rows that sum to 1; N is 1 or more.
        labels: (N,) int64 in [0, K).
    """
    confidences = probabilities.max(axis=1)
    are_right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, NUM_BINS + 1)
    numbers = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, NUM_BINS - 1)
    bins, ece = [], 0.0
    for number in range(NUM_BINS):
        inside = numbers == number
        confidence = float(confidences[inside].mean()) if inside.any() else None
        right = float(are_right[inside].mean()) if inside.any() else None
        if confidence is not None and right is not None:
            ece += float(inside.mean()) * abs(confidence - right)
        bins.append(
            ConfidenceBin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                num_videos=int(inside.sum()),
                confidence=confidence,
                right=right,
            )
        )
    return Reliability(bins=bins, ece=ece)
