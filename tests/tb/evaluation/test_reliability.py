"""The reliability curve and the calibration error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tb.evaluation.reliability import NUM_BINS, reliability


@given(seed=st.integers(0, 2**32 - 1), num_videos=st.integers(1, 40), sharpness=st.floats(0.05, 5))
def test_agrees_with_a_slow_count(seed: int, num_videos: int, sharpness: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([sharpness] * 4, num_videos)
    labels = rng.integers(0, 4, num_videos)
    found = reliability(probabilities, labels)
    error = 0.0
    for place, each in enumerate(found.bins):
        assert (each.low, each.high) == pytest.approx((place / NUM_BINS, (place + 1) / NUM_BINS))
        inside = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if each.low < max(row) <= each.high or (place == NUM_BINS - 1 and max(row) > 1)
        ]
        assert each.num_videos == len(inside)
        if inside:
            confidence, right = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            assert (each.confidence, each.right) == pytest.approx((confidence, right))
            error += len(inside) / num_videos * abs(confidence - right)
    assert sum(each.num_videos for each in found.bins) == num_videos
    assert found.ece == pytest.approx(error)


def test_sure_and_right_has_no_error_and_sure_and_wrong_all_of_it() -> None:
    sure = np.eye(3)[[0, 1, 2, 2]]
    assert reliability(sure, np.array([0, 1, 2, 2])).ece == 0
    assert reliability(sure, np.array([1, 2, 0, 0])).ece == 1


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin() -> None:
    found = reliability(np.array([[0.5, 0.5]]), np.array([0]))
    assert [each.num_videos for each in found.bins] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert found.bins[0].confidence is None
