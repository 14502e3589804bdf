"""The result of a grid: a table with intervals beside the paper's numbers, and comparisons."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from shards.counted import counted
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.evaluation.accuracy import Evaluation
from tb.tables.claims import Comparison
from tb.tables.grid import Cell, Finding
from tb.tables.markdown import table_lines
from tb.tables.published import TableRow
from tb.tables.statistics import MIN_SEEDS, Estimate, estimate


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """What stands in one row of the table.

    Attributes:
        title: Its title.
        ours: Percentage of labels -> top-1 in percent over seeds; only percentages that have run.
        paper: Percentage of labels -> published top-1 in percent.
    """

    title: str
    ours: dict[float, Estimate]
    paper: dict[float, float]


COMPARISON_HEAD = ("row", "rival", "row minus rival, points", "p (Holm)", "verdict")
HOW_COMPARED = (
    "Differences are paired over seeds and videos. The interval (95 %, of each comparison alone)"
    " and p are from a bootstrap with seeds as clusters and videos drawn within their class. p and"
    " the verdict (5 %) are corrected for the number of comparisons on this page (Holm)."
)

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


def notes(evaluations: Evaluations, manifest: Manifest) -> list[str]:
    """Sentences about the data and the seeds of the table."""
    first = next(iter(evaluations.values()), None)
    if first is None:
        return ["Nothing has run yet."]
    seeds = {seed for _, _, seed in evaluations}
    return [
        f"{manifest.name}: {counted(first.num_videos, 'video')} of split {first.split!r},"
        f" {counted(len(manifest.classes), 'class')} (chance {100 / len(manifest.classes):.1f} %);"
        f" {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, each with its own choice of labels,"
        " networks and order. Mean and 95 % confidence interval over seeds, from"
        f" {MIN_SEEDS} seeds on."
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
        comparisons: The rows against their rivals.
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
        comparison_head=COMPARISON_HEAD,
        comparisons=[comparison_cells(found) for found in comparisons],
        how=HOW_COMPARED,
        command=command,
    )
    files = {
        "results.md": markdown(title, notes, percents, rows, comparisons, command).encode(),
        "results.html": page.encode(),
        "results.png": _png(chart(title, percents, rows)),
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
    text += table_lines(
        ("top-1, %", *(f"{percent:g} % of labels" for percent in percents)),
        ([row.title, *(_cell(row, percent) for percent in percents)] for row in rows),
    )
    if comparisons:
        text += ["", *table_lines(COMPARISON_HEAD, map(comparison_cells, comparisons))]
        text += ["", HOW_COMPARED]
    return "\n".join(text) + "\n"


def _cell(row: ResultRow, percent: float) -> str:
    ours = str(row.ours[percent]) if percent in row.ours else "-"
    return f"{ours} (paper: {row.paper[percent]:g})" if percent in row.paper else ours


def comparison_cells(found: Comparison) -> list[str]:
    """The cells of `COMPARISON_HEAD`, as text."""
    p_value = "-" if found.p_value is None else f"{found.p_value:.3f}"
    return [found.row, found.rival, found.difference.signed, p_value, found.verdict]


def chart(title: str, percents: Sequence[float], rows: Sequence[ResultRow]) -> Figure:
    """A bar for each cell of the table, and a diamond where the paper has a number."""
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
    diamonds = "; diamonds: the paper" if any(row.paper for row in rows) else ""
    axes.set_xlabel(f"top-1, % (bars: ours, 95 % interval over seeds{diamonds})")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
