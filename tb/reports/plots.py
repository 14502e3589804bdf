"""Charts: SVG text to be put into the report's page, and PNG files."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tb.training.metrics import Row

_NUM_COLUMNS = 3
_MAX_POINTS = 200
# Classes up to which a confusion matrix shows its numbers, and its names.
_MAX_COUNTS, _MAX_NAMES = 20, 120
_COLOR, _SOFT = "#2b6cb0", "#bcd0e8"
# Not steps, and not a loss.
_OTHER = (
    *("step", "lr", "data_wait_s", "step_s", "videos_per_s", "num_padded", "loss"),
    *("grad_norm", "gpu_memory_mb", "overflowed", "confident"),
)
# Fixed ids: the same run gives the same page.
_STYLE: Any = {"svg.hashsalt": "timebalance", "font.size": 9, "axes.spines.top": False}


def training_curves(metrics: dict[str, list[Row]]) -> str:
    """Loss over steps, a panel per stage, with its terms; smoothed by a running mean."""
    num_rows = math.ceil(len(metrics) / _NUM_COLUMNS)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.6 * num_rows), layout="constrained")
        for place, (name, rows) in enumerate(metrics.items()):
            axes = figure.add_subplot(num_rows, _NUM_COLUMNS, place + 1)
            steps = np.array([row["step"] for row in rows])
            terms = [term for term in rows[0] if term not in _OTHER]
            for term in ["loss", *terms]:
                x, y = smooth(steps, np.array([row[term] for row in rows]))
                axes.plot(x, y, label=term, linewidth=2 if term == "loss" else 1)
            axes.set_title(name)
            axes.set_xlabel("step")
            axes.spines["right"].set_visible(False)
            if terms:
                axes.legend(frameon=False)
        return _svg(figure)


def similarity(values: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> str:
    """The distribution of the similarity score, a box per class.

    Args:
        values: (N,) in [0, 1].
        labels: (N,) indices into `classes`.
        classes: Names.
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
        return _svg(figure)


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """What was taken for what, as SVG: a row per true class, its shares by colour.

    Args:
        matrix: (K, K) int, matrix[label][prediction] counts videos.
        classes: K names; left out where there are too many to be read.
    """
    with matplotlib.rc_context(_STYLE):
        return _svg(_confusion_figure(matrix, classes))


def confusion_png(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """The same as a PNG file."""
    with matplotlib.rc_context(_STYLE):
        file = io.BytesIO()
        figure = _confusion_figure(matrix, classes)
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
        return file.getvalue()


def _confusion_figure(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    num_classes = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.14 * num_classes, 16)  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class's videos", shrink=0.7)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if num_classes <= _MAX_NAMES:
        size = 9 if num_classes <= _MAX_COUNTS else 5
        axes.set_xticks(range(num_classes), classes, rotation=90, fontsize=size)
        axes.set_yticks(range(num_classes), classes, fontsize=size)
    if num_classes <= _MAX_COUNTS:
        for label, prediction in np.argwhere(matrix).tolist():
            axes.text(
                prediction,
                label,
                str(matrix[label, prediction]),
                ha="center",
                va="center",
                color="white" if shares[label, prediction] > 0.6 else "black",
            )
    return figure


def smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of equal stretches of (N,) values over (N,) steps: some `_MAX_POINTS` at most."""
    size = max(1, len(steps) // _MAX_POINTS, min(10, len(steps) // 20))
    num = len(steps) // size
    return (
        steps[: num * size].reshape(num, size).mean(1),
        values[: num * size].reshape(num, size).mean(1),
    )


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    # Without the XML prolog, which has no place inside a page.
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
