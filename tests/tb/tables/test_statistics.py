"""Intervals and p-values against known cases, counts and hand-made numbers."""

import numpy as np
import pytest

from tb.tables.statistics import estimate, holm, paired_difference, t_quantile, t_tail


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # from printed tables, two-sided 95 %
    [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980), (1e9, 1.960)],
)
def test_student_s_t_is_that_of_printed_tables(freedom: float, quantile: float) -> None:
    assert t_quantile(0.05, freedom) == pytest.approx(quantile, abs=6e-4)
    assert t_tail(quantile, freedom) == pytest.approx(0.05, abs=5e-5)
    assert t_tail(0.0, freedom) == pytest.approx(1.0)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Student's t on normal draws: 95 % of intervals hold the true mean."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        found = estimate(rng.normal(3.0, 2.0, 5).tolist())
        assert found.half is not None
        hits += abs(found.mean - 3.0) <= found.half
    assert hits / 1000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("num", [1, 2])
def test_fewer_than_three_seeds_have_no_interval(num: int) -> None:
    found = estimate([50.0, 60.0][:num])
    assert (found.half, found.num) == (None, num)
    assert str(found) == f"{50 + 5 * (num - 1):.1f}"
    difference, p_value = paired_difference(np.ones((num, 4)), np.zeros(4))
    assert (difference.mean, difference.half, p_value) == (1.0, None, 1.0)
    assert difference.signed == "+1.0"


def test_where_only_seeds_differ_it_is_student_s_t_over_seeds() -> None:
    seeds = [1.0, 4.0, 2.0, 7.0]
    differences = np.repeat(np.array(seeds)[:, None], 6, axis=1)
    found, p_value = paired_difference(differences, np.array([0, 0, 1, 1, 1, 2]))
    wanted = estimate(seeds)
    assert found.half is not None
    assert wanted.half is not None
    assert found.mean == wanted.mean
    assert found.half == pytest.approx(wanted.half, rel=0.05)  # 2000 draws
    error = np.std(seeds, ddof=1) / 2
    assert p_value == pytest.approx(t_tail(wanted.mean / error, 3), abs=0.01)


def test_where_only_videos_differ_it_is_the_stratified_normal_interval() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], [5, 20, 40])
    # Classes far apart: without strata the interval would be many times as wide.
    videos = rng.normal(size=65) + 10 * classes
    found, _ = paired_difference(np.repeat(videos[None], 5, axis=0), classes)
    variance = sum(
        (num / 65) ** 2 * videos[classes == label].var(ddof=1) / num
        for label, num in ((0, 5), (1, 20), (2, 40))
    )
    assert found.half == pytest.approx(1.96 * variance**0.5, rel=0.05)


def test_the_paired_interval_covers_as_often_as_it_says() -> None:
    """Seeds, videos and both together vary: nearly 95 % of intervals hold the true mean."""
    rng = np.random.default_rng(0)
    classes, hits = np.repeat([0, 1, 2], 10), 0
    for _ in range(300):
        noise = rng.normal(size=(4, 1)) / 3 + rng.normal(size=30) + rng.normal(size=(4, 30))
        found, p_value = paired_difference(2 + noise, classes)
        assert found.half is not None
        hits += abs(found.mean - 2) <= found.half
        assert (p_value < 0.05) == (abs(found.mean) > found.half)
    assert 0.92 < hits / 300 < 0.99


def test_a_difference_that_never_varies_is_certain() -> None:
    found, p_value = paired_difference(np.full((3, 4), 2.0), np.zeros(4))
    assert (found.mean, found.half, p_value) == (2.0, 0.0, 0.0)
    found, p_value = paired_difference(np.zeros((3, 4)), np.zeros(4))
    assert (found.mean, found.half, p_value) == (0.0, 0.0, 1.0)


def test_holm_by_hand() -> None:
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1; none falls below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.6]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_keeps_the_error_of_a_family_of_true_hypotheses() -> None:
    rng = np.random.default_rng(0)
    families = rng.uniform(size=(2000, 8)).tolist()
    assert np.mean([min(holm(family)) < 0.05 for family in families]) < 0.06
