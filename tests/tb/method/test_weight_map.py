"""The rules that turn similarity scores into weights, and the fit of the calibrated one."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tb.method.weight_map import WeightMap, fit_weight_map, target_weights
from tb.stage_kinds import TeacherWeights

CONSTANTS = np.linspace(0.001, 0.999, 200).tolist()


def slow_log_likelihood(
    weights: Sequence[float], invariant: np.ndarray, distinctive: np.ndarray
) -> float:
    """The mean log-likelihood of the mixtures, one video after the other."""
    found = [
        math.log(weight * one + (1 - weight) * two)
        for weight, one, two in zip(weights, invariant.tolist(), distinctive.tolist(), strict=True)
    ]
    return sum(found) / len(found)


def slow_weights(offset: float, slope: float, scores: torch.Tensor) -> list[float]:
    logits = [math.log(s / (1 - s)) for s in scores.double().tolist()]
    return [1 / (1 + math.exp(-(offset + slope * logit))) for logit in logits]


def test_the_map_is_the_sigmoid_of_a_line_over_the_logit() -> None:
    scores = torch.tensor([0.01, 0.3, 0.5, 0.77, 0.99])
    found = WeightMap(offset=-0.7, slope=1.3)(scores)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(slow_weights(-0.7, 1.3, scores))


def test_offset_0_and_slope_1_are_the_papers_rule() -> None:
    scores = torch.linspace(0.001, 0.999, 50)
    found = WeightMap(offset=0.0, slope=1.0)(scores)
    assert torch.allclose(found, scores.double(), atol=1e-9)


def test_scores_at_the_ends_and_missing_ones() -> None:
    found = WeightMap(offset=0.0, slope=1.0)(torch.tensor([0.0, 1.0, float("nan")]))
    assert found[:2].tolist() == pytest.approx([0.001, 0.999])
    assert found[2].isnan()
    scores = torch.tensor([0.2, float("nan"), 0.8])
    for rule in (rule for rule in TeacherWeights if not rule.reads_hidden_labels):
        weights = target_weights(rule, scores, WeightMap(offset=-1.0, slope=2.0))
        assert weights.dtype == torch.float32
        assert weights[1] == (0.5 if rule.invariant_share is None else rule.invariant_share)


@st.composite
def judged(draw: st.DrawFn) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Scores, and what each teacher gives to the label."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_videos = draw(st.integers(2, 40))
    low, high = sorted(draw(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99))))
    sharpness = draw(st.sampled_from([0.1, 1.0, 5.0]))
    scores = torch.from_numpy(rng.uniform(low, high, num_videos)).float()
    invariant, distinctive = rng.beta(sharpness, sharpness, (2, num_videos)).clip(1e-6, 1)
    return scores, invariant, distinctive


@given(judged())
@settings(max_examples=30)
def test_no_constant_and_not_the_paper_s_rule_is_likelier(
    videos: tuple[torch.Tensor, np.ndarray, np.ndarray],
) -> None:
    scores, invariant, distinctive = videos
    found = fit_weight_map(scores, invariant, distinctive)
    assert found.slope >= 0
    weights = found(scores).tolist()
    assert weights == pytest.approx(slow_weights(found.offset, found.slope, scores))
    value = slow_log_likelihood(weights, invariant, distinctive)
    rivals = [scores.double().tolist(), *([share] * len(scores) for share in CONSTANTS)]
    for rival in rivals:
        assert value >= slow_log_likelihood(rival, invariant, distinctive) - 1e-9


def test_the_fit_is_where_a_slow_search_ends() -> None:
    rng = np.random.default_rng(3)
    scores = torch.from_numpy(rng.uniform(0.5, 0.95, 60)).float()
    knows = rng.random(60) < (scores.numpy() - 0.4)  # the invariant teacher, at high scores
    invariant = np.where(knows, 0.7, 0.1) * rng.uniform(0.6, 1, 60)
    distinctive = np.where(knows, 0.15, 0.6) * rng.uniform(0.6, 1, 60)
    found = fit_weight_map(scores, invariant, distinctive)
    value = slow_log_likelihood(found(scores).tolist(), invariant, distinctive)
    places = [(a, b) for a in np.arange(-8, 4, 0.5) for b in np.arange(0, 8, 0.5)]
    best = max(
        slow_log_likelihood(slow_weights(a, b, scores), invariant, distinctive) for a, b in places
    )
    assert best <= value < best + 0.02
    # The place is flat: a small step to any side is worse.
    for a, b in ((1e-2, 0), (-1e-2, 0), (0, 1e-2), (0, -1e-2)):
        near = slow_weights(found.offset + a, found.slope + b, scores)
        assert slow_log_likelihood(near, invariant, distinctive) < value


def test_the_weight_never_falls_where_the_score_rises() -> None:
    """Although here the labels say that it should."""
    scores = torch.linspace(0.1, 0.9, 30)
    is_low = (scores < 0.5).numpy()
    found = fit_weight_map(scores, np.where(is_low, 0.8, 0.1), np.where(is_low, 0.1, 0.8))
    assert found.slope == 0
    assert (found(scores) == found(scores)[0]).all()


def test_equal_scores_get_the_best_constant() -> None:
    scores = torch.full((30,), 0.9)
    invariant = np.where(np.arange(30) < 6, 0.9, 0.1)
    found = fit_weight_map(scores, invariant, 1 - invariant)
    assert found.slope == 0
    shares = np.linspace(0.001, 0.999, 999)
    best = max(shares, key=lambda w: slow_log_likelihood([w] * 30, invariant, 1 - invariant))
    assert found(scores[:1]).item() == pytest.approx(best, abs=2e-3)


def test_teachers_that_agree_leave_half_each() -> None:
    """Every weight is as good as any other; the middle is taken."""
    chances = np.full(30, 0.5)
    found = fit_weight_map(torch.linspace(0.3, 0.9, 30), chances, chances)
    assert (found.offset, found.slope) == (0.0, 0.0)


def test_where_the_score_says_who_is_right_the_mixture_beats_both_teachers() -> None:
    """The order of the scores is right and their level is not, as with real ones."""
    rng = np.random.default_rng(0)
    invariant_is_right = np.arange(200) % 2 == 0
    scores = np.where(invariant_is_right, 0.93, 0.75) + rng.uniform(-0.08, 0.06, 200)
    sure, wrong = 0.8, 0.02
    invariant = np.where(invariant_is_right, sure, wrong)
    distinctive = np.where(invariant_is_right, wrong, sure)
    found = fit_weight_map(
        torch.from_numpy(scores[:100]).float(), invariant[:100], distinctive[:100]
    )
    weights = found(torch.from_numpy(scores[100:]).float()).numpy()  # of videos not fitted to
    is_invariant_first = weights * sure > (1 - weights) * sure
    assert (is_invariant_first == invariant_is_right[100:]).mean() > 0.8
    raw = scores[100:] > 0.5
    assert (raw == invariant_is_right[100:]).mean() == 0.5
