"""How the rows of a table differ: comparisons that are paired over videos and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tb.evaluation.evaluate import read_hits
from tb.stage_kinds import FINETUNED
from tb.tables.grid import Cell, Finding
from tb.tables.published import PARTS, RIVALS, TableRow
from tb.tables.statistics import MIN_SEEDS, Estimate, holm, paired_difference

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row against another.

    Attributes:
        row: Title of the row.
        rival: Title of the other row, and the kind of classes if not all are compared.
        difference: The row's top-1 minus the rival's, in points.
        p_value: The p-value of "there is no difference", after Holm's correction over the page;
            None for fewer than `MIN_SEEDS` seeds.
    """

    row: str
    rival: str
    difference: Estimate
    p_value: float | None

    @property
    def verdict(self) -> str:
        """What is shown at the level of 5 %, corrected for all comparisons of the page."""
        if self.p_value is None:
            return f"fewer than {MIN_SEEDS} seeds: no verdict"
        if self.p_value >= LEVEL:
            return "no difference is shown"
        return "better" if self.difference.mean > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Which videos were predicted right.

    Attributes:
        labels: (V,) int64 the videos' classes.
        right: (row, percentage of labels, seed) -> (V,) bool.
    """

    labels: np.ndarray
    right: Mapping[tuple[str, float, int], np.ndarray]


def hits_of(cells: Iterable[Cell], found: Mapping[str, Finding], out: Path) -> Hits:
    """The predictions of the cells that are done.

    Args:
        cells: The cells.
        found: The findings of their units.
        out: The grid's folder.

    Raises:
        InputError: A finished unit has lost its predictions.
    """
    labels, right = np.zeros(0, dtype=np.int64), {}
    for cell in cells:
        evaluation = found[cell.unit].evaluation if cell.unit in found else None
        if evaluation is not None:
            labels, hits = read_hits(out / cell.unit, evaluation.split)
            right[cell.row.name, cell.percent, cell.seed] = hits
    return Hits(labels=labels, right=right)


def compare(
    rows: Sequence[TableRow], hits: Hits, class_kinds: Mapping[str, Sequence[int]]
) -> list[Comparison]:
    """Each row against each of its rivals (`tb.tables.published.RIVALS`), where both have run.

    The teachers are compared on two kinds of classes; each should be better at one of them.

    Args:
        rows: The rows of the table.
        hits: Their predictions.
        class_kinds: "appearance" and "motion" -> class indices, for a data set with such kinds of
            classes; else empty.
    """
    pairs = [(one, other, "") for one, others in RIVALS.items() for other in others]
    teachers = (("appearance", FINETUNED), ("motion", FINETUNED[::-1]))
    pairs += [(one, other, kind) for kind, (one, other) in teachers if kind in class_kinds]
    return list(_compared(pairs, rows, hits, class_kinds).values())


def compare_parts(rows: Sequence[TableRow], hits: Hits) -> dict[str, Comparison]:
    """What each part of the method brings: the row with the part against the row without it.

    Args:
        rows: The rows of the table.
        hits: Their predictions.

    Returns:
        The parts of `tb.tables.published.PARTS` whose two rows have run, and their comparisons.
    """
    pairs = {part: (one, other, "") for part, (one, other) in PARTS.items()}
    found = _compared(list(pairs.values()), rows, hits, {})
    return {part: found[pair] for part, pair in pairs.items() if pair in found}


_Pair = tuple[str, str, str]  # a row, its rival, and the kind of the classes ("" for all)


def _compared(
    pairs: Sequence[_Pair],
    rows: Sequence[TableRow],
    hits: Hits,
    class_kinds: Mapping[str, Sequence[int]],
) -> dict[_Pair, Comparison]:
    """The pairs that have run; their p-values are corrected together."""
    titles = {row.name: row.title for row in rows}
    found: dict[_Pair, tuple[str, str, Estimate, float]] = {}
    for pair in pairs:
        one, other, kind = pair
        if one not in titles or other not in titles:
            continue
        videos = np.isin(hits.labels, class_kinds[kind]) if kind else hits.labels >= 0
        differences = _differences(one, other, hits)[:, videos]
        if differences.size:
            rival = titles[other] + (f", {kind} classes" if kind else "")
            result = paired_difference(100 * differences, hits.labels[videos])
            found[pair] = (titles[one], rival, *result)
    tested = [p for *_, difference, p in found.values() if difference.num >= MIN_SEEDS]
    corrected = iter(holm(tested))
    return {
        pair: Comparison(
            row=row,
            rival=rival,
            difference=difference,
            p_value=next(corrected) if difference.num >= MIN_SEEDS else None,
        )
        for pair, (row, rival, difference, _) in found.items()
    }


def _differences(one: str, other: str, hits: Hits) -> np.ndarray:
    """(S, V) differences by seed and video, means over the percentages that both rows have."""
    both = [
        (seed, hits.right[place].astype(float) - hits.right[other, percent, seed])
        for place in hits.right
        for name, percent, seed in [place]
        if name == one and (other, percent, seed) in hits.right
    ]
    seeds = sorted({seed for seed, _ in both})
    means = [np.mean([found for of, found in both if of == seed], axis=0) for seed in seeds]
    return np.array(means).reshape(len(seeds), len(hits.labels))
