"""The numbers about targets, against slow counts."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders import Part
from tb.method.judged_videos import JudgedVideos
from tb.method.target_quality import EITHER, TargetQuality, target_quality

CLASSES = ("hop", "sit", "wave")


def quality(
    seed: int, num_videos: int, num_unscored: int = 0
) -> tuple[TargetQuality, JudgedVideos, np.ndarray]:
    """The numbers of random predictions, the videos, and their scores."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(100, num_videos, replace=False))
    videos = JudgedVideos(
        rows=rows,
        labels=rng.integers(0, len(CLASSES), num_videos),
        folds=np.zeros(num_videos, dtype=np.int64),
        invariant=rng.dirichlet([0.5] * 3, num_videos),
        distinctive=rng.dirichlet([0.5] * 3, num_videos),
    )
    scores = torch.full((100,), float("nan"))
    scores[rows[num_unscored:]] = torch.from_numpy(rng.random(num_videos - num_unscored)).float()
    weights = {
        "invariant": np.ones(num_videos),
        "distinctive": np.zeros(num_videos),
        "similarity": scores.nan_to_num(0.5)[rows].double().numpy(),
    }
    found = target_quality(videos, weights, scores, CLASSES, part=Part.UNLABELLED, judged_by="dice")
    return found, videos, scores.numpy()[rows]


def slow_right(videos: JudgedVideos) -> list[tuple[bool, bool]]:
    """For each video, whether the invariant and the distinctive teacher are right."""
    found = []
    for place, label in enumerate(videos.labels.tolist()):
        one, two = videos.invariant[place], videos.distinctive[place]
        found.append((int(np.argmax(one)) == label, int(np.argmax(two)) == label))
    return found


any_videos = given(
    seed=st.integers(0, 2**32 - 1), num_videos=st.integers(2, 40), unscored=st.integers(0, 1)
)


@any_videos
@settings(max_examples=50)
def test_shares_and_likelihoods_agree_with_a_slow_count(
    seed: int, num_videos: int, unscored: int
) -> None:
    found, videos, scores = quality(seed, num_videos, unscored)
    right, labels = slow_right(videos), videos.labels.tolist()
    assert found.right["invariant"] == pytest.approx(np.mean([one for one, _ in right]))
    assert found.right["distinctive"] == pytest.approx(np.mean([two for _, two in right]))
    assert found.right[EITHER] == pytest.approx(np.mean([one or two for one, two in right]))
    hits, logs = [], []
    for place, label in enumerate(labels):
        s = 0.5 if np.isnan(scores[place]) else float(scores[place])
        mixed = s * videos.invariant[place] + (1 - s) * videos.distinctive[place]
        hits.append(int(np.argmax(mixed)) == label)
        logs.append(np.log(mixed[label]))
    assert found.right["similarity"] == pytest.approx(np.mean(hits))
    assert found.log_likelihood["similarity"] == pytest.approx(np.mean(logs))


@any_videos
@settings(max_examples=50)
def test_what_is_counted_by_score_agrees_with_a_slow_count(
    seed: int, num_videos: int, unscored: int
) -> None:
    found, videos, scores = quality(seed, num_videos, unscored)
    right = slow_right(videos)
    known = [place for place in range(num_videos) if not np.isnan(scores[place])]
    only_one = [scores[x] for x in known if right[x] == (True, False)]
    only_two = [scores[x] for x in known if right[x] == (False, True)]
    pairs = [1.0 if a > b else 0.5 * (a == b) for a, b in product(only_one, only_two)]
    assert found.order == (pytest.approx(np.mean(pairs)) if pairs else None)

    says = (videos.invariant.argmax(1), videos.distinctive.argmax(1))
    for each in found.score_bins:
        inside = [x for x in known if each.low <= scores[x] <= each.high]
        split = [x for x in inside if says[0][x] != says[1][x]]
        assert each.num_videos == len(inside)
        assert each.invariant_right == sum(right[x][0] for x in split)
        assert each.distinctive_right == sum(right[x][1] for x in split)
        assert each.neither_right == sum(not any(right[x]) for x in split)
    sizes = [each.num_videos for each in found.score_bins]
    assert sum(sizes) == len(known)
    assert max(sizes) - min(sizes) <= 1


@any_videos
@settings(max_examples=20)
def test_classes_agree_with_a_slow_count(seed: int, num_videos: int, unscored: int) -> None:
    found, videos, scores = quality(seed, num_videos, unscored)
    right = slow_right(videos)
    names = [CLASSES[label] for label in videos.labels]
    known = [place for place in range(num_videos) if not np.isnan(scores[place])]
    for each in found.classes:
        inside = [x for x in known if names[x] == each.name]
        own = sorted(float(scores[x]) for x in inside)
        assert each.num_videos == len(inside)
        assert (each.quantiles[0], each.quantiles[-1]) == (own[0], own[-1])
        assert each.quantiles[2] == pytest.approx(np.median(own))
        assert each.right["invariant"] == pytest.approx(np.mean([right[x][0] for x in inside]))
        assert each.right["distinctive"] == pytest.approx(np.mean([right[x][1] for x in inside]))
        mixed = [
            scores[x] * videos.invariant[x] + (1 - scores[x]) * videos.distinctive[x]
            for x in inside
        ]
        hits = [np.argmax(m) == videos.labels[x] for m, x in zip(mixed, inside, strict=True)]
        assert each.right["similarity"] == pytest.approx(np.mean(hits))
    assert {each.name for each in found.classes} == {names[x] for x in known}


def test_the_record_says_that_labels_were_hidden() -> None:
    found, videos, _ = quality(0, 10)
    assert (found.part, found.hidden_labels, found.judged_by) == ("unlabelled", True, "dice")
    scores = torch.full((100,), 0.5)
    weights = dict.fromkeys(("invariant", "distinctive", "similarity"), np.full(10, 0.5))
    found = target_quality(videos, weights, scores, CLASSES, part=Part.LABELLED, judged_by="dice")
    assert not found.hidden_labels
