import pytest

from tb.evaluation.accuracy import Evaluation
from tb.tables.claims import Comparison
from tb.tables.published import BACKBONES, PERCENTS, TABLES, TIMEBALANCE, TableRow
from tb.tables.results import chart, markdown, table
from tb.tables.statistics import Estimate


def accuracy(top1: float) -> Evaluation:
    return Evaluation(
        stage="",
        split="test",
        classes=[],
        num_videos=100,
        top1=top1,
        top5=1.0,
        class_top1=[],
        confusion=[],
        source={},
    )


def test_page_sets_the_papers_number_beside_ours() -> None:
    top1 = {("timebalance", 20.0, seed): accuracy(0.8 + 0.02 * seed) for seed in range(3)}
    lines = table([TIMEBALANCE], top1, "ucf101", "r50")
    text = markdown("t", ["f"], [20.0, 50.0], lines, [], "tb reproduce")
    row = next(line for line in text.splitlines() if line.startswith("| TimeBalance"))
    assert "82.0 ± " in row
    assert "(paper: 83.3)" in row
    assert row.endswith("| - (paper: 85) |")


@pytest.mark.parametrize("dataset", ["ucf101", "demo"])
def test_the_chart_explains_diamonds_where_there_are_any(dataset: str) -> None:
    rows = table([TIMEBALANCE], {("timebalance", 20.0, 0): accuracy(0.8)}, dataset, "r50")
    (axes,) = chart("t", [20.0], rows).axes
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    assert bool(diamonds) == (dataset == "ucf101") == ("diamonds" in axes.get_xlabel())


def test_page_lists_comparisons() -> None:
    difference = Estimate(mean=-1.25, half=0.5, num=3)
    one = Comparison(row="TimeBalance", rival="FixMatch", difference=difference, p_value=0.0312)
    text = markdown("t", [], [20.0], [], [one], "tb reproduce")
    assert "| TimeBalance | FixMatch | -1.2 ± 0.5 | 0.031 | worse |" in text.splitlines()


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
