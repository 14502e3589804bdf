import statistics

import pytest

from tb.evaluation.accuracy import Evaluation
from tb.tables.published import BACKBONES, PERCENTS, TABLES, TIMEBALANCE, TableRow
from tb.tables.results import Comparison, Estimate, claims, estimate, markdown, table


def accuracy(top1: float, class_top1: list[float | None] | None = None) -> Evaluation:
    return Evaluation(
        stage="",
        split="test",
        classes=[],
        num_videos=100,
        top1=top1,
        top5=1.0,
        class_top1=class_top1 or [],
        confusion=[],
        source={},
    )


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Student's t on normal draws: 95 % of intervals hold the true mean."""
    import numpy as np

    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = estimate(rng.normal(3.0, 2.0, 5).tolist())
        assert found.half is not None
        hits += abs(found.mean - 3.0) <= found.half
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    found = estimate([50.0])
    assert (found.mean, found.half) == (50.0, None)
    assert Comparison(claim="", difference=found).verdict == "one seed: no verdict"


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(3.0, "shown here"), (1.0, "not shown: the interval holds 0"), (-3.0, "the opposite")],
)
def test_verdict_follows_the_interval(mean: float, verdict: str) -> None:
    found = Comparison(claim="", difference=Estimate(mean=mean, half=2.0, num=5))
    assert found.verdict.startswith(verdict)


def test_differences_are_paired_by_seed_and_share_of_labels() -> None:
    """A seed that moves both rows alike does not widen the interval."""
    top1 = {}
    for seed, level in enumerate((0.2, 0.5, 0.8)):
        top1["supervised", 10.0, seed] = accuracy(level)
        top1["timebalance", 10.0, seed] = accuracy(level + 0.04)
    (found,) = claims(top1, {})
    assert found.difference.mean == pytest.approx(4.0)
    assert found.difference.half == pytest.approx(0.0, abs=1e-9)
    assert found.verdict == "shown here"


def test_the_best_of_the_others_is_what_counts() -> None:
    top1 = {("timebalance", 10.0, seed): accuracy(0.5 + 0.01 * seed) for seed in range(3)} | {
        (name, 10.0, seed): accuracy(level)
        for name, level in (("pseudo-label", 0.2), ("fixmatch", 0.45))
        for seed in range(3)
    }
    (found,) = claims(top1, {})
    assert found.difference.mean == pytest.approx(
        100 * (statistics.fmean([0.5, 0.51, 0.52]) - 0.45)
    )


def test_each_teacher_is_compared_on_its_kind_of_class() -> None:
    top1 = {
        ("finetune-invariant", 10.0, 0): accuracy(0.5, [0.9, 0.1]),
        ("finetune-distinctive", 10.0, 0): accuracy(0.5, [0.4, 0.8]),
    }
    appearance, motion = claims(top1, {"appearance": [0], "motion": [1]})
    assert appearance.difference.mean == pytest.approx(50)
    assert motion.difference.mean == pytest.approx(70)


def test_page_sets_the_papers_number_beside_ours() -> None:
    top1 = {("timebalance", 20.0, seed): accuracy(0.8 + 0.02 * seed) for seed in range(2)}
    lines = table([TIMEBALANCE], top1, "ucf101", "r50")
    text = markdown("t", ["f"], [20.0, 50.0], lines, [], "tb reproduce")
    row = next(line for line in text.splitlines() if line.startswith("| TimeBalance"))
    assert "81.0 ± " in row
    assert "(paper: 83.3)" in row
    assert row.endswith("| - (paper: 85) |")


def test_published_numbers_belong_to_known_sets_and_percentages() -> None:
    rows: list[TableRow] = [row for rows in TABLES.values() for row in rows]
    numbers = [
        (place, percent, value)
        for row in rows
        for place, values in row.paper.items()
        for percent, value in values.items()
    ]
    assert len(numbers) > 40
    for (dataset, backbone), percent, value in numbers:
        assert percent in PERCENTS[dataset]
        assert backbone in BACKBONES
        assert 0 < value < 100
    for rows_of_table in TABLES.values():
        names = [row.name for row in rows_of_table]
        assert len(set(names)) == len(names)
