"""The picture of the confusions: which class was predicted for which."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# The most classes for which the picture shows the counts, and the most for which it shows names.
_MAX_COUNTS, _MAX_NAMES = 20, 120
# A dollar sign in the name of a class does not begin a formula.
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "text.parse_math": False}


def confusion_png(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """The confusions as a PNG file: a row for each true class, its shares as colours.

    Args:
        matrix: (K, K) int; matrix[label][prediction] counts videos.
        classes: K names; left out where there are too many to be read.
    """
    with matplotlib.rc_context(_STYLE):
        file = io.BytesIO()
        figure = _figure(matrix, classes)
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
        return file.getvalue()


def _figure(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
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
