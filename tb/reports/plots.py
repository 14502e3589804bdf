"""Charts as SVG text, for the report's page."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tb.training.metrics import MetricsRow, is_loss_term, taken

_NUM_COLUMNS = 3
_MAX_POINTS = 200
_COLOR, _SOFT = "#2b6cb0", "#bcd0e8"
# Fixed ids, so that the same run gives the same page. Matplotlib must not read names as formulas.
_STYLE: Any = {
    "svg.hashsalt": "timebalance",
    "font.size": 9,
    "axes.spines.top": False,
    "text.parse_math": False,
}


def training_curves(metrics: dict[str, list[MetricsRow]]) -> str:
    """The loss and its terms over the steps, smoothed: one panel for each stage."""
    num_rows = math.ceil(len(metrics) / _NUM_COLUMNS)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.6 * num_rows), layout="constrained")
        for place, (name, rows) in enumerate(metrics.items()):
            axes = figure.add_subplot(num_rows, _NUM_COLUMNS, place + 1)
            drawn = taken(rows)
            steps = np.array([row["step"] for row in drawn])
            terms = [term for row in drawn[:1] for term in row if is_loss_term(term)]
            for term in ["loss", *terms]:
                x, y = smooth(steps, np.array([row[term] for row in drawn]))
                axes.plot(x, y, label=term, linewidth=2 if term == "loss" else 1)
            axes.set_title(name)
            axes.set_xlabel("step")
            axes.spines["right"].set_visible(False)
            if terms:
                axes.legend(frameon=False)
        return figure_svg(figure)


def similarity_boxes(values: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> str:
    """The distribution of the similarity score, one box for each class.

    Args:
        values: (N,) scores in [0, 1].
        labels: (N,) indices into `classes`.
        classes: Their names.
    """
    groups = [values[labels == label] for label in range(len(classes))]
    order = sorted(
        range(len(classes)), key=lambda c: float(np.median(groups[c])) if len(groups[c]) else 0.0
    )
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10, 0.26 * len(classes) + 0.9), layout="constrained")
        axes = figure.add_subplot()
        axes.boxplot(
            [groups[c] for c in order],
            orientation="horizontal",
            patch_artist=True,
            boxprops={"facecolor": _SOFT, "edgecolor": _COLOR},
            medianprops={"color": _COLOR},
            flierprops={"markersize": 3},
        )
        axes.set_yticks(range(1, len(classes) + 1), [classes[c] for c in order])
        axes.set_xlabel("temporal similarity s (1: trust the invariant teacher)")
        axes.spines["right"].set_visible(False)
        return figure_svg(figure)


def smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of (N,) steps and values over equal stretches, at most about `_MAX_POINTS` of them."""
    size = max(1, len(steps) // _MAX_POINTS, min(10, len(steps) // 20))
    num = len(steps) // size
    return (
        steps[: num * size].reshape(num, size).mean(1),
        values[: num * size].reshape(num, size).mean(1),
    )


def figure_svg(figure: Figure) -> str:
    """The figure as SVG text that a page can contain."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    # Without the XML prolog, which is not allowed inside a page.
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
