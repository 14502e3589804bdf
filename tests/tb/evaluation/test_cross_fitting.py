"""Folds, and predictions of probes that did not learn from the label of the video."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tb.evaluation.cross_fitting import NO_FOLD, NUM_FOLDS, fold_numbers, held_out_probabilities
from tb.evaluation.probes import fit_logistic


@given(seed=st.integers(0, 99), sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6))
@settings(max_examples=50)
def test_every_class_is_spread_evenly(seed: int, sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    keys = [f"video-{number}" for number in range(len(labels))]
    folds = fold_numbers(keys, labels, seed)
    for label, size in enumerate(sizes):
        own = folds[labels == label]
        if size == 1:
            assert own.tolist() == [NO_FOLD]
        else:
            counts = np.bincount(own, minlength=NUM_FOLDS)
            assert counts.max() - counts.min() <= 1
    order = np.random.default_rng(seed).permutation(len(keys))
    again = fold_numbers([keys[place] for place in order], labels[order], seed)
    assert np.array_equal(again, folds[order])


def test_another_seed_gives_other_folds() -> None:
    keys, labels = [f"video-{number}" for number in range(40)], np.repeat([0, 1], 20)
    assert not np.array_equal(fold_numbers(keys, labels, 0), fold_numbers(keys, labels, 1))


def test_each_fold_is_judged_by_a_probe_of_the_others() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 7)
    vectors = torch.from_numpy(rng.normal(size=(21, 4)) + labels[:, None]).float()
    folds = np.arange(21) % NUM_FOLDS
    folds[20] = NO_FOLD
    found = held_out_probabilities(vectors, torch.from_numpy(labels), folds, 3, l2=0.01)
    assert found[20].isnan().all()
    for fold in range(NUM_FOLDS):
        learned = vectors[torch.from_numpy(folds != fold)]
        mean, deviation = learned.mean(0), learned.std(0, correction=0)
        weight, bias = fit_logistic(
            (learned - mean) / deviation, torch.from_numpy(labels[folds != fold]), 3, l2=0.01
        )
        for place in np.flatnonzero(folds == fold):
            wanted = ((vectors[place] - mean) / deviation @ weight.T + bias).softmax(-1)
            assert torch.allclose(found[place], wanted.double(), atol=1e-6)


def test_a_prediction_does_not_know_its_own_label() -> None:
    rng = np.random.default_rng(1)
    vectors = torch.from_numpy(rng.normal(size=(20, 5))).float()
    labels = torch.arange(20) % 2
    folds = np.arange(20) % NUM_FOLDS
    other = torch.where(torch.from_numpy(folds == 2), 1 - labels, labels)
    one, two = (held_out_probabilities(vectors, each, folds, 2) for each in (labels, other))
    assert torch.equal(one[folds == 2], two[folds == 2])
    assert not torch.equal(one, two)
