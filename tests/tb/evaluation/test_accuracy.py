"""Accuracies and the table of classes against slow counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tb.evaluation.accuracy import class_table, measure_accuracy


@given(seed=st.integers(0, 2**32 - 1), num_videos=st.integers(1, 40), num_classes=st.integers(2, 9))
def test_counts_agree_with_a_slow_count(seed: int, num_videos: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(num_classes), num_videos)
    labels = rng.integers(0, num_classes, num_videos)
    classes = [str(c) for c in range(num_classes)]
    found = measure_accuracy(probabilities, labels, classes, stage="s", split="test", source={})
    best = [max(range(num_classes), key=lambda c: row[c]) for row in probabilities]
    assert found.top1 == pytest.approx(np.mean([b == y for b, y in zip(best, labels, strict=True)]))
    higher = [sum(p > row[y] for p in row) for row, y in zip(probabilities, labels, strict=True)]
    assert found.top5 == pytest.approx(np.mean([rank < 5 for rank in higher]))
    assert np.sum(found.confusion) == num_videos
    for label, share in enumerate(found.class_top1):
        mine = [b == y for b, y in zip(best, labels, strict=True) if y == label]
        assert share == (pytest.approx(np.mean(mine)) if mine else None)


def test_a_class_of_probability_0_is_not_among_the_five() -> None:
    probabilities = np.array([[1.0, 0.0, 0.0]])
    for label, top5 in ((0, 1.0), (1, 0.0)):
        found = measure_accuracy(
            probabilities, np.array([label]), ["a", "b", "c"], stage="s", split="test", source={}
        )
        assert (found.top1, found.top5) == (top5, top5)


def test_the_class_table_names_the_most_frequent_mistake() -> None:
    # Class a: 2 right, 1 taken for b, 2 for c. Class b: all right. Class c: no videos.
    predictions = np.array([0, 0, 1, 2, 2, 1])
    labels = np.array([0, 0, 0, 0, 0, 1])
    found = measure_accuracy(
        np.eye(3)[predictions], labels, ["a", "b", "c"], stage="s", split="test", source={}
    )
    a, b, c = class_table(found)
    assert (a.num_videos, a.top1, a.mistaken_for, a.num_mistaken) == (5, 0.4, "c", 2)
    assert (b.num_videos, b.top1, b.mistaken_for, b.num_mistaken) == (1, 1.0, None, 0)
    assert (c.num_videos, c.top1, c.mistaken_for, c.num_mistaken) == (0, None, None, 0)
    assert np.sum(found.confusion) == 6  # left as it was
