"""The result of a grid: a table with intervals beside the paper's numbers, and the claims."""

import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.evaluation.accuracy import Evaluation
from tb.stage_kinds import BASELINES, FINETUNED, StageKind
from tb.tables.grid import Cell, Finding
from tb.tables.published import (
    DISTINCTIVE_ONLY,
    EQUAL_WEIGHTS,
    INVARIANT_ONLY,
    TIMEBALANCE,
    TableRow,
)

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_T95_MANY = 1.960


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with its 95 % confidence interval; `half` is None for a single seed."""

    mean: float
    half: float | None
    num: int

    def __str__(self) -> str:
        spread = "" if self.half is None else f" ± {self.half:.1f}"
        return f"{self.mean:.1f}{spread}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval (Student's t) of independent values, at least one."""
    num = len(values)
    if num == 1:
        return Estimate(mean=values[0], half=None, num=1)
    quantile = _T95[num - 2] if num - 2 < len(_T95) else _T95_MANY
    half = quantile * statistics.stdev(values) / math.sqrt(num)
    return Estimate(mean=statistics.fmean(values), half=half, num=num)


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """What stands in one row of the table.

    Attributes:
        title: Its title.
        ours: Percentage of labels -> top-1 in percent over seeds; without those that have not run.
        paper: Percentage of labels -> published top-1 in percent.
    """

    title: str
    ours: dict[float, Estimate]
    paper: dict[float, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A claim as a difference, paired by seed and share of labels, in points of top-1."""

    claim: str
    difference: Estimate

    @property
    def verdict(self) -> str:
        """What the interval shows of the claim."""
        mean, half = self.difference.mean, self.difference.half
        if half is None:
            return "one seed: no verdict"
        if mean - half > 0:
            return "shown here"
        if mean + half < 0:
            return "the opposite is shown here"
        return "not shown: the interval holds 0"


Evaluations = dict[tuple[str, float, int], Evaluation]
"""(row, percentage of labels, seed) -> accuracy."""


def by_cell(cells: Iterable[Cell], found: Mapping[str, Finding]) -> Evaluations:
    """The accuracies of the cells that are done."""
    done = {key: finding.evaluation for key, finding in found.items()}
    return {
        (cell.row.name, cell.percent, cell.seed): evaluation
        for cell in cells
        if (evaluation := done.get(cell.unit)) is not None
    }


def table(
    rows: Sequence[TableRow], evaluations: Evaluations, dataset: str, backbone: str
) -> list[ResultRow]:
    """The results of the rows, in the table's order."""
    results = []
    for row in rows:
        values: dict[float, list[float]] = {}
        for (name, percent, _), evaluation in evaluations.items():
            if name == row.name:
                values.setdefault(percent, []).append(100 * evaluation.top1)
        results.append(
            ResultRow(
                title=row.title,
                ours={percent: estimate(found) for percent, found in values.items()},
                paper=row.paper.get((dataset, backbone), {}),
            )
        )
    return results


def compare(
    claim: str, one: str, others: Sequence[str], evaluations: Evaluations
) -> Comparison | None:
    """Row `one` against the best (by mean) of `others`; None where too little has run."""
    best = max(others, key=lambda name: _mean(name, evaluations), default=None)
    if best is None or math.isinf(_mean(best, evaluations)):
        return None
    differences = [
        100 * (evaluation.top1 - evaluations[best, percent, seed].top1)
        for (name, percent, seed), evaluation in evaluations.items()
        if name == one and (best, percent, seed) in evaluations
    ]
    if not differences:
        return None
    return Comparison(claim=claim, difference=estimate(differences))


def _mean(name: str, evaluations: Evaluations) -> float:
    values = [evaluation.top1 for (row, _, _), evaluation in evaluations.items() if row == name]
    return statistics.fmean(values) if values else -math.inf


def compare_on(
    claim: str, one: str, other: str, labels: Sequence[int], evaluations: Evaluations
) -> Comparison | None:
    """Row `one` against row `other` on some classes only, by the mean accuracy of these classes."""

    def share(evaluation: Evaluation) -> float:
        values = [evaluation.class_top1[label] for label in labels]
        return statistics.fmean(value for value in values if value is not None)

    differences = [
        100 * (share(evaluation) - share(evaluations[other, percent, seed]))
        for (name, percent, seed), evaluation in evaluations.items()
        if name == one and (other, percent, seed) in evaluations
    ]
    return Comparison(claim=claim, difference=estimate(differences)) if differences else None


def claims(evaluations: Evaluations, class_kinds: Mapping[str, Sequence[int]]) -> list[Comparison]:
    """The paper's claims, as far as the finished runs can test them.

    Args:
        evaluations: The accuracies.
        class_kinds: "appearance" and "motion" -> class indices, for a data set with such kinds of
            classes; else empty.
    """
    student = TIMEBALANCE.name
    found = [
        compare(
            "the student is better than supervised training alone",
            student,
            [StageKind.SUPERVISED],
            evaluations,
        ),
        compare(
            "the student is better than the best other semi-supervised method",
            student,
            BASELINES,
            evaluations,
        ),
        compare(
            "two teachers are better than the better one alone",
            student,
            [INVARIANT_ONLY.name, DISTINCTIVE_ONLY.name],
            evaluations,
        ),
        compare(
            "similarity weights are better than fixed ones",
            student,
            [EQUAL_WEIGHTS.name],
            evaluations,
        ),
    ]
    for kind, (one, other) in (("appearance", FINETUNED), ("motion", FINETUNED[::-1])):
        if kind in class_kinds:
            claim = f"the {one.result_name} teacher is better on {kind} classes"
            found.append(compare_on(claim, one, other, class_kinds[kind], evaluations))
    return [comparison for comparison in found if comparison is not None]


def notes(evaluations: Evaluations, manifest: Manifest) -> list[str]:
    """Sentences about the data and the seeds of the table."""
    first = next(iter(evaluations.values()), None)
    if first is None:
        return ["Nothing has run yet."]
    seeds = {seed for _, _, seed in evaluations}
    return [
        f"{manifest.name}: {first.num_videos} videos of split {first.split!r},"
        f" {len(manifest.classes)} classes (chance {100 / len(manifest.classes):.1f} %);"
        f" {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, each with its own choice of labels,"
        " networks and order. Mean and 95 % confidence interval over seeds."
    ]


def write_results(
    out: Path,
    *,
    title: str,
    notes: Sequence[str],
    rows: Sequence[ResultRow],
    comparisons: Sequence[Comparison],
    command: str,
) -> list[Path]:
    """Writes OUT/results.md, .html and .png; returns their paths.

    Args:
        out: The grid's folder.
        title: The heading.
        notes: Sentences about the data and the seeds.
        rows: The table.
        comparisons: The claims.
        command: The command that gives the same.
    """
    percents = sorted({percent for row in rows for percent in (*row.ours, *row.paper)})
    environment = Environment(
        loader=PackageLoader("tb"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("results.html").render(
        title=title,
        notes=notes,
        percents=percents,
        rows=rows,
        comparisons=comparisons,
        command=command,
    )
    files = {
        "results.md": markdown(title, notes, percents, rows, comparisons, command).encode(),
        "results.html": page.encode(),
        "results.png": _picture(title, percents, rows),
    }
    for name, content in files.items():
        publish_bytes(out / name, content)
    return [out / name for name in files]


def markdown(
    title: str,
    notes: Sequence[str],
    percents: Sequence[float],
    rows: Sequence[ResultRow],
    comparisons: Sequence[Comparison],
    command: str,
) -> str:
    """The page as GitHub-flavoured Markdown."""
    text = [f"# {title}", "", *(f"{note}\n" for note in notes), "```", command, "```", ""]
    head = ["top-1, %", *(f"{percent:g} % of labels" for percent in percents)]
    text += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [_cell(row, percent) for percent in percents]
        text.append("| " + " | ".join([row.title, *cells]) + " |")
    if comparisons:
        text += ["", "| claim | difference, points | verdict |", "| --- | --- | --- |"]
        for found in comparisons:
            text.append(f"| {found.claim} | {_signed(found.difference)} | {found.verdict} |")
    return "\n".join(text) + "\n"


def _cell(row: ResultRow, percent: float) -> str:
    ours = str(row.ours[percent]) if percent in row.ours else "-"
    return f"{ours} (paper: {row.paper[percent]:g})" if percent in row.paper else ours


def _signed(found: Estimate) -> str:
    return f"{found.mean:+.1f}" + ("" if found.half is None else f" ± {found.half:.1f}")


def _picture(title: str, percents: Sequence[float], rows: Sequence[ResultRow]) -> bytes:
    figure = Figure(figsize=(9, 1.5 + 0.34 * len(rows) * max(1, len(percents))))
    axes = figure.add_subplot()
    ticks, labels = [], []
    for place, (percent, row) in enumerate((p, row) for p in percents for row in rows):
        y = -place - percents.index(percent)
        ticks.append(y)
        labels.append(f"{row.title}, {percent:g} %")
        if percent in row.ours:
            found = row.ours[percent]
            axes.barh(y, found.mean, xerr=found.half or 0, color="#bcd0e8", ecolor="#2b6cb0")
        if percent in row.paper:
            axes.plot(row.paper[percent], y, "D", color="#d9822b")
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("top-1, % (bars: ours, 95 % interval over seeds; diamonds: the paper)")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
