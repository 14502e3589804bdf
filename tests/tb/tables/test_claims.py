"""Comparisons of the rows of a table with their rivals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.evaluate import evaluate, read_hits
from tb.stage_kinds import StageKind
from tb.tables.claims import Comparison, Hits, compare, compare_parts, hits_of
from tb.tables.grid import Cell, Finding
from tb.tables.published import PARTS, RIVALS, TABLES
from tb.tables.statistics import Estimate

LABELS = np.repeat([0, 1], 40)
ROWS = TABLES["table1"]


def hits(seed: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=len(LABELS)) < share


def test_pairs_by_seed_video_and_share_of_labels() -> None:
    """What moves both rows alike does not widen the interval."""
    right = {}
    for seed, level in enumerate((0.2, 0.5, 0.8)):
        for percent in (5.0, 10.0):
            rival = hits(seed, level)
            better = rival.copy()
            # One more in each class, at 10 % alone: one in forty, and none.
            for label in (0, 1):
                wrong = np.flatnonzero(~rival & (label == LABELS))
                better[wrong[:1]] = percent == 10
            right["supervised", percent, seed] = rival
            right["timebalance", percent, seed] = better
    right["timebalance", 10.0, 7] = hits(0, 0.0)  # a seed that the rival has not run
    (found,) = compare(ROWS, Hits(labels=LABELS, right=right), {})
    assert (found.row, found.rival) == ("TimeBalance, L2", "supervised only, same labels")
    assert found.difference.mean == pytest.approx(1.25)
    assert found.difference.num == 3
    assert found.difference.half is not None
    assert 0 < found.difference.half < 2.5  # unpaired, the seeds alone would make it 100 wide


def test_each_rival_counts_and_all_together_are_corrected() -> None:
    right, rivals = {}, [name for name in RIVALS["timebalance"] if name != "supervised"]
    for seed in range(4):
        right["timebalance", 10.0, seed] = hits(seed, 0.9)
        for place, name in enumerate(rivals):
            right[name, 10.0, seed] = hits(100 + 10 * place + seed, 0.5 + 0.05 * place)
    alone = [
        compare(
            ROWS, Hits(labels=LABELS, right={k: v for k, v in right.items() if k[0] in two}), {}
        )
        for two in [("timebalance", name) for name in rivals]
    ]
    together = compare(ROWS, Hits(labels=LABELS, right=right), {})
    assert len(together) == len(rivals) == 8
    assert [x.difference for x in together] == [x.difference for (x,) in alone]
    p_values = [x.p_value for (x,) in alone]
    lowest = min(p for p in p_values if p is not None)
    place = p_values.index(lowest)
    assert together[place].p_value == pytest.approx(8 * lowest)
    assert together[0].verdict == "better"


@pytest.mark.parametrize(
    ("table", "one", "other"),
    [
        ("table1", "oracle", "no-teachers"),
        ("table1", "timebalance", "stretched-weights"),
        ("table2", "calibrated-weights-scratch", "no-teachers-scratch"),
        ("table2", "calibrated-weights-scratch", "distinctive-only-scratch"),
        ("table2", "calibrated-weights-scratch", "equal-weights-scratch"),
        ("table2", "oracle-scratch", "no-teachers-scratch"),
        ("table2", "timebalance-scratch", "invariant-only-scratch"),
    ],
)
def test_a_row_is_compared_with_the_student_without_a_part(
    table: str, one: str, other: str
) -> None:
    right = {
        (name, 10.0, seed): hits(10 * place + seed, share)
        for place, (name, share) in enumerate(((one, 0.9), (other, 0.3)))
        for seed in range(3)
    }
    (found,) = compare(TABLES[table], Hits(labels=LABELS, right=right), {})
    titles = {row.name: row.title for row in TABLES[table]}
    assert (found.row, found.rival) == (titles[one], titles[other])
    assert found.difference.half is not None
    assert found.difference.mean > 40
    del right[other, 10.0, 0], right[other, 10.0, 1], right[other, 10.0, 2]
    assert compare(TABLES[table], Hits(labels=LABELS, right=right), {}) == []


def test_each_teacher_is_compared_on_its_kind_of_class() -> None:
    right = {
        (name, 10.0, seed): np.where(LABELS == 0, hits(seed, first), hits(seed, second))
        for name, first, second in (
            ("finetune-invariant", 1.0, 0.0),
            ("finetune-distinctive", 0.0, 0.5),
        )
        for seed in range(3)
    }
    kinds = {"appearance": [0], "motion": [1]}
    appearance, motion = compare(ROWS, Hits(labels=LABELS, right=right), kinds)
    assert appearance.rival == "distinctive teacher, fine-tuned, appearance classes"
    assert appearance.difference.mean == 100
    assert motion.row == "distinctive teacher, fine-tuned"
    assert 30 < motion.difference.mean < 70


def test_a_part_is_the_row_with_it_against_the_row_without_it() -> None:
    levels = {"supervised": 0.2, "no-teachers": 0.5, "equal-weights": 0.6, "timebalance": 0.3}
    right = {
        (name, 10.0, seed): hits(10 * place + seed, share)
        for place, (name, share) in enumerate(levels.items())
        for seed in range(3)
    }
    found = compare_parts(ROWS, Hits(labels=LABELS, right=right))
    # Parts whose two rows have not both run are left out.
    assert list(found) == ["the self-supervised start", "the score in place of half each"]
    start, score = found.values()
    names = ("no-teachers", "supervised")
    means = [np.mean([right[name, 10.0, seed] for seed in range(3)]) for name in names]
    assert start.difference.mean == pytest.approx(100 * (means[0] - means[1]))
    assert score.difference.mean < 0
    assert (score.row, score.rival) == ("TimeBalance, L2", "student of both, weights fixed at 0.5")


@pytest.mark.parametrize(("table", "num_parts"), [("table1", 6), ("table2", 5)])
def test_parts_of_a_table_follow_one_another(table: str, num_parts: int) -> None:
    rows = {row.name for row in TABLES[table]}
    pairs = [pair for pair in PARTS.values() if rows.issuperset(pair)]
    assert len(pairs) == num_parts
    assert [other for _, other in pairs[1:]] == [one for one, _ in pairs[:-1]]


def test_every_part_is_one_of_a_table() -> None:
    tables = [{row.name for row in rows} for rows in TABLES.values()]
    assert all(any(rows.issuperset(pair) for rows in tables) for pair in PARTS.values())


@pytest.mark.parametrize(
    ("mean", "p_value", "verdict"),
    [
        (3.0, 0.01, "better"),
        (-3.0, 0.01, "worse"),
        (3.0, 0.06, "no difference is shown"),
        (3.0, None, "fewer than 3 seeds: no verdict"),
    ],
)
def test_verdict_follows_the_corrected_p(mean: float, p_value: float | None, verdict: str) -> None:
    difference = Estimate(mean=mean, half=2.0, num=5)
    found = Comparison(row="", rival="", difference=difference, p_value=p_value)
    assert found.verdict == verdict


def test_two_seeds_have_no_verdict() -> None:
    right = {
        (name, 10.0, seed): hits(seed, share)
        for name, share in (("supervised", 0.1), ("timebalance", 0.9))
        for seed in range(2)
    }
    (found,) = compare(ROWS, Hits(labels=LABELS, right=right), {})
    assert (found.p_value, found.difference.half) == (None, None)


def test_hits_are_those_of_the_evaluation(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    result = evaluate("supervised", manifest, config, finished)
    cell = Cell(row=TABLES["table1"][0], percent=50.0, seed=0, unit="supervised")
    finding = Finding(source="", seconds=0, step_s=0, evaluation=result)
    absent = replace(cell, seed=1, unit="absent")
    found = hits_of([cell, absent], {"supervised": finding}, finished)
    assert list(found.right) == [("supervised", 50.0, 0)]
    assert found.right["supervised", 50.0, 0].mean() == pytest.approx(result.top1)
    counts = np.bincount(found.labels, minlength=len(result.classes))
    assert counts.tolist() == np.array(result.confusion).sum(axis=1).tolist()
    with pytest.raises(InputError, match=r"predictions-test\.parquet: not readable"):
        read_hits(tmp_path, "test")
    (tmp_path / "predictions-test.parquet").write_text(json.dumps({}))
    with pytest.raises(InputError, match="and run the command that made it"):
        read_hits(tmp_path, "test")


def test_rivals_are_rows_that_stand_in_one_table() -> None:
    names = [{row.name for row in rows} for rows in TABLES.values()]
    for one, others in RIVALS.items():
        for other in others:
            assert any({one, other} <= rows for rows in names)
    assert StageKind.FIXMATCH in RIVALS["timebalance"]
