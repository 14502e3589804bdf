"""How good targets are: both teachers and their mixtures, on videos whose labels are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from loaders import Part
from tb.evaluation.reliability import Reliability, reliability
from tb.method.judged_videos import JudgedVideos
from tb.method.weight_map import log_likelihood
from tb.stage_kinds import Teacher, TeacherWeights

EITHER = "either"
"""A key beside the rules: the videos that at least one teacher gets right. No mixture of two
confident teachers gets more right."""
HINDSIGHT = "hindsight"
"""A key beside the rules: the calibrated rule with the map that fits these very labels best."""
_NUM_SCORE_BINS = 5
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class ScoreBin:
    """Videos of neighbouring scores, and who is right where the teachers disagree.

    Attributes:
        low: Their lowest similarity score.
        high: Their highest similarity score.
        num_videos: Their number.
        invariant_right: Videos that the invariant teacher alone gets right.
        distinctive_right: Videos that the distinctive teacher alone gets right.
        neither_right: Videos on which the teachers disagree and both are wrong.
    """

    low: float
    high: float
    num_videos: int
    invariant_right: int
    distinctive_right: int
    neither_right: int


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """The videos of one class.

    Attributes:
        name: The class.
        num_videos: Its videos that have a score, 1 or more.
        quantiles: The scores' minimum, quartiles (three) and maximum.
        right: Rule of `TeacherWeights` -> the share of them whose label is the most probable class
            of its mixture.
    """

    name: str
    num_videos: int
    quantiles: list[float]
    right: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TargetQuality:
    """The teachers and their mixtures on one part of the training videos.

    Attributes:
        part: "labelled" or "unlabelled".
        hidden_labels: Whether labels were used that training does not have.
        judged_by: Whose predictions these are.
        num_videos: The videos, 1 or more.
        right: Rule of `TeacherWeights` -> the share of the videos whose label is the most probable
            class of its mixture; `HINDSIGHT`; and `EITHER`.
        log_likelihood: Rule -> the mean log-likelihood of the labels under its mixture.
        order: The chance that a video which only the invariant teacher gets right has a higher
            score than one which only the distinctive teacher gets right; equal ones count half.
            None if there are no such videos.
        score_bins: Five bins of about equally many videos, by score.
        reliability: "invariant", "distinctive" and "similarity" (the mixture by s) -> the curve.
        classes: The classes that have videos.
    """

    part: str
    hidden_labels: bool
    judged_by: str
    num_videos: int
    right: dict[str, float]
    log_likelihood: dict[str, float]
    order: float | None
    score_bins: list[ScoreBin]
    reliability: dict[str, Reliability]
    classes: list[ClassScores]


def target_quality(
    videos: JudgedVideos,
    weights: dict[str, np.ndarray],
    scores: Tensor,
    classes: Sequence[str],
    *,
    part: Part,
    judged_by: str,
) -> TargetQuality:
    """The numbers of one part.

    Args:
        videos: N videos, 1 or more.
        weights: Rule of `TeacherWeights`, or `HINDSIGHT` -> (N,) weights of the invariant teacher.
        scores: (videos of the manifest,) the scores, NaN where there is none.
        classes: The names of the classes.
        part: `Part.LABELLED`, or `Part.UNLABELLED`: then the labels are hidden ones.
        judged_by: The result's `judged_by`.
    """
    mixtures = {rule: videos.mixture(each) for rule, each in weights.items()}
    right = {rule: videos.are_right(each) for rule, each in mixtures.items()}
    invariant, distinctive = (right[teacher.value] for teacher in Teacher)
    own_scores = scores[videos.rows].numpy()
    shown = (*Teacher, TeacherWeights.SIMILARITY)
    return TargetQuality(
        part=part.value,
        hidden_labels=part is Part.UNLABELLED,
        judged_by=judged_by,
        num_videos=len(videos),
        right={
            **{rule: float(each.mean()) for rule, each in right.items()},
            EITHER: float((invariant | distinctive).mean()),
        },
        log_likelihood={
            rule: float(log_likelihood(videos.of_labels(each))) for rule, each in mixtures.items()
        },
        order=_order(own_scores[invariant & ~distinctive], own_scores[distinctive & ~invariant]),
        score_bins=_score_bins(own_scores, videos),
        reliability={each.value: reliability(mixtures[each], videos.labels) for each in shown},
        classes=[
            scores_of_class
            for label, name in enumerate(classes)
            if (scores_of_class := _class_scores(name, own_scores, videos.labels == label, right))
        ],
    )


def _order(high: np.ndarray, low: np.ndarray) -> float | None:
    """The share of pairs in which `high` has the higher score; equal scores count half."""
    high, low = high[~np.isnan(high)], np.sort(low[~np.isnan(low)])
    if not (len(high) and len(low)):
        return None
    num_below = (np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")) / 2
    return float(num_below.mean() / len(low))


def _score_bins(scores: np.ndarray, videos: JudgedVideos) -> list[ScoreBin]:
    disagree = videos.invariant.argmax(axis=1) != videos.distinctive.argmax(axis=1)
    invariant = disagree & videos.are_right(videos.invariant)
    distinctive = disagree & videos.are_right(videos.distinctive)
    ranked = np.argsort(scores, kind="stable")  # NaN is last
    ranked = ranked[: int((~np.isnan(scores)).sum())]
    return [
        ScoreBin(
            low=float(scores[inside].min()),
            high=float(scores[inside].max()),
            num_videos=len(inside),
            invariant_right=int(invariant[inside].sum()),
            distinctive_right=int(distinctive[inside].sum()),
            neither_right=int((disagree & ~invariant & ~distinctive)[inside].sum()),
        )
        for inside in np.array_split(ranked, _NUM_SCORE_BINS)
        if len(inside)
    ]


def _class_scores(
    name: str, scores: np.ndarray, inside: np.ndarray, right: dict[str, np.ndarray]
) -> ClassScores | None:
    inside = inside & ~np.isnan(scores)
    if not inside.any():
        return None
    return ClassScores(
        name=name,
        num_videos=int(inside.sum()),
        quantiles=np.quantile(scores[inside], _QUANTILES).tolist(),
        right={rule: float(each[inside].mean()) for rule, each in right.items()},
    )
