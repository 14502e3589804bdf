"""The chart of an `Advice`: space against time, with a dot for each candidate."""

import io
from collections.abc import Sequence
from math import inf
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from shards.counted import counted
from shards.errors import InputError
from tb.advice.advice import Advice
from tb.advice.measure import Measured

_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
_MARKERS = {"h264": "o", "hevc": "^", "vp9": "v", "mjpeg": "s", "copy": "D"}
_INK, _SOFT = "#333333", "#b0b0b0"
# The line begins at the middle of the name's left edge.
_LEADER = {"arrowstyle": "-", "color": _SOFT, "linewidth": 0.6, "relpos": (0, 0.5), "shrinkB": 4}
_TICKS = (1, 1.5, 2, 3, 4, 5, 7)
_LINE_PX, _DPI = 21, 120
_WIDTH_IN, _MIN_HEIGHT_IN = 10.0, 5.0
_MARGIN_IN = 1.3


def chart_png(advice: Advice) -> bytes:
    """A PNG file: bytes per video to the right, processor time per video upwards, PSNR as colour.

    The names stand in a column on the right, the slowest at the top, so that no name covers
    another. The name of the choice is bold.
    """
    measured = sorted(advice.found.measured, key=lambda one: (one.cpu_ms, one.bytes_per_video))
    height_in = max(_MIN_HEIGHT_IN, len(measured) * _LINE_PX / _DPI + _MARGIN_IN)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, height_in))
        axes = figure.add_axes((0.08, 0.12, 0.58, 0.78), xlabel="kB/video", ylabel="CPU ms/video")
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=_TICKS))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        axes.set_title(
            f"{advice.views} at {advice.size_px} px, {advice.found.num_videos} of"
            f" {counted(advice.num_videos, 'video')}; the choice is bold"
        )
        _dots(figure, axes, measured)
        _names(axes, measured, _chosen_name(advice))
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=_DPI)
    return data.getvalue()


def _chosen_name(advice: Advice) -> str:
    try:
        return advice.choice.name
    except InputError:
        return ""


def _dots(figure: Figure, axes: Axes, measured: Sequence[Measured]) -> None:
    """A dot for each candidate; "copy" loses nothing, so it has no colour."""
    finite = [one.psnr_db for one in measured if one.psnr_db != inf]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    dots = None
    for one in measured:
        x, y, marker = one.bytes_per_video / 1000, one.cpu_ms, _MARKERS[one.recipe.codec]
        if one.psnr_db == inf:
            axes.scatter([x], [y], marker=marker, s=60, facecolors="white", edgecolors=_INK)
        else:
            dots = axes.scatter(
                *([x], [y], 60, [one.psnr_db]),
                marker=marker,
                vmin=low,
                vmax=high,
                cmap="viridis",
                zorder=2,
            )
    if dots is not None:
        figure.colorbar(dots, cax=figure.add_axes((0.9, 0.12, 0.015, 0.78)), label="PSNR dB")


def _names(axes: Axes, measured: Sequence[Measured], chosen: str) -> None:
    """The names in a column, in the order of the dots, with a line from each dot to its name."""
    # `linspace` would put a single name at the bottom.
    heights = np.linspace(0.0, 1.0, len(measured)) if len(measured) > 1 else np.array([0.5])
    for one, height in zip(measured, heights.tolist(), strict=True):
        axes.annotate(
            one.name,
            xy=(one.bytes_per_video / 1000, one.cpu_ms),
            xytext=(1.08, height),
            textcoords="axes fraction",
            va="center",
            color=_INK,
            weight="bold" if one.name == chosen else "normal",
            arrowprops=_LEADER,
            annotation_clip=False,
            zorder=1,
        )
