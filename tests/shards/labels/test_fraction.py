"""Label fractions are stratified, nested and seeded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import InputError
from shards.labels.fraction import label_fraction

_LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)
_PERCENT = st.floats(0.1, 100)
_SEED = st.integers(0, 2**32)


def _keys(labels: np.ndarray) -> list[str]:
    return [f"video{row}" for row in range(len(labels))]


@given(_LABELS, _PERCENT, _SEED)
def test_every_class_gives_its_share_and_at_least_one(
    labels: np.ndarray, percent: float, seed: int
) -> None:
    labelled = label_fraction(_keys(labels), labels, percent, seed)
    for label, size in zip(*np.unique(labels, return_counts=True), strict=True):
        num = int(labelled[labels == label].sum())
        assert num >= 1
        assert num == 1 or abs(num - size * percent / 100) <= 0.5


@given(_LABELS, _PERCENT, _PERCENT, _SEED)
def test_a_smaller_fraction_lies_inside_a_larger_one(
    labels: np.ndarray, one: float, other: float, seed: int
) -> None:
    small = label_fraction(_keys(labels), labels, min(one, other), seed)
    large = label_fraction(_keys(labels), labels, max(one, other), seed)
    assert not np.any(small & ~large)


@given(_LABELS, _PERCENT, _SEED, st.randoms())
def test_the_order_of_the_rows_does_not_matter(  # type: ignore[no-untyped-def]
    labels: np.ndarray, percent: float, seed: int, random
) -> None:
    keys = _keys(labels)
    order = np.array(random.sample(range(len(keys)), len(keys)))
    expected = label_fraction(keys, labels, percent, seed)[order]
    moved = label_fraction([keys[row] for row in order], labels[order], percent, seed)
    assert np.array_equal(moved, expected)


@given(_LABELS, _PERCENT, _PERCENT, _SEED, st.integers(1, 6))
def test_whole_groups_are_nested_too_and_no_more_than_needed(
    labels: np.ndarray, one: float, other: float, seed: int, num_groups: int
) -> None:
    keys = _keys(labels)
    groups = [f"g{row % num_groups}" if row % 7 else "" for row in range(len(labels))]
    own = [(label, group or key) for label, group, key in zip(labels, groups, keys, strict=True)]
    small, large = (label_fraction(keys, labels, p, seed, groups) for p in sorted((one, other)))
    assert not np.any(small & ~large)
    plain = label_fraction(keys, labels, max(one, other), seed)
    for label in set(labels.tolist()):
        chosen = [g for g, on in zip(own, large, strict=True) if on and g[0] == label]
        left = [g for g, on in zip(own, large, strict=True) if not on and g[0] == label]
        assert not set(chosen) & set(left)
        wanted = int(plain[labels == label].sum())
        largest = max(chosen.count(group) for group in chosen)
        assert wanted <= len(chosen) < wanted + largest


def test_all_and_other_seeds() -> None:
    labels = np.repeat(np.arange(3), 50)
    keys = _keys(labels)
    assert label_fraction(keys, labels, 100, 0).all()
    draws = {label_fraction(keys, labels, 10, seed).tobytes() for seed in range(20)}
    assert len(draws) == 20


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan")])
def test_impossible_percentages_are_refused(percent: float) -> None:
    with pytest.raises(InputError, match="percentage above 0"):
        label_fraction(["a"], np.array([0]), percent, 0)


def test_repeated_keys_are_refused() -> None:
    with pytest.raises(InputError, match="repeat"):
        label_fraction(["a", "a"], np.array([0, 0]), 50, 0)
