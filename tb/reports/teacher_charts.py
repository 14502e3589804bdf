"""Charts of an inspection of the teachers: one column for each part of the training videos."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tb.method.target_quality import EITHER, HINDSIGHT, TargetQuality
from tb.method.teacher_inspection import TeacherInspection
from tb.reports.plots import figure_svg
from tb.stage_kinds import TeacherWeights

_PART_WIDTH = 5.2  # inches
_INVARIANT, _DISTINCTIVE, _MIXTURE, _NONE = "#2b6cb0", "#c05621", "#2f855a", "#cbd5e0"
_COLORS = {"invariant": _INVARIANT, "distinctive": _DISTINCTIVE, EITHER: _NONE}
# Fixed ids, so that the same inspection gives the same picture. Names must not be read as formulas.
_STYLE: Any = {
    "svg.hashsalt": "timebalance",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
RULE_NAMES = {
    TeacherWeights.INVARIANT: "invariant teacher",
    TeacherWeights.DISTINCTIVE: "distinctive teacher",
    TeacherWeights.SIMILARITY: "mixture by s (the paper's)",
    TeacherWeights.STRETCHED: "mixture by s stretched",
    TeacherWeights.CALIBRATED: "mixture by s calibrated",
    HINDSIGHT: "mixture by s, best map of these labels",
    TeacherWeights.EQUAL: "mixture, half each",
    EITHER: "either teacher",
}
"""What is compared, for people, in the order of tables and charts."""
CLASS_RULES = (
    TeacherWeights.INVARIANT,
    TeacherWeights.DISTINCTIVE,
    TeacherWeights.SIMILARITY,
    TeacherWeights.CALIBRATED,
)
"""What is compared by class."""
Draw = Callable[[Axes, TargetQuality], None]


def caption(part: TargetQuality) -> str:
    """Says which videos these are, who judges them, and whether their labels are hidden ones."""
    hidden = (
        "hidden labels, for analysis only" if part.hidden_labels else "held out by cross-fitting"
    )
    return f"{part.num_videos} {part.part} training videos,\n{hidden};\n{part.judged_by}"


def chart_pngs(inspection: TeacherInspection) -> dict[str, bytes]:
    """Name -> a PNG file, for every chart."""
    with matplotlib.rc_context(_STYLE):
        return {name: _png(figure) for name, figure in chart_figures(inspection).items()}


def chart_svgs(inspection: TeacherInspection) -> dict[str, str]:
    """Name -> SVG text for a page, for every chart."""
    with matplotlib.rc_context(_STYLE):
        return {name: figure_svg(figure) for name, figure in chart_figures(inspection).items()}


def chart_figures(inspection: TeacherInspection) -> dict[str, Figure]:
    """Name -> the drawing, for every chart."""
    num_classes = max(len(part.classes) for part in inspection.parts)
    charts: dict[str, tuple[Draw, float]] = {  # how it is drawn, and its height in inches
        "right": (_draw_right, 3.1),
        "disagreements": (_draw_disagreements, 3.6),
        "reliability": (_draw_reliability, 4.6),
        "scores": (_draw_scores, 0.24 * num_classes + 1.2),
        "classes": (_draw_classes, 0.36 * num_classes + 2.2),
    }
    return {name: _figure(inspection, draw, height) for name, (draw, height) in charts.items()}


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return file.getvalue()


def _figure(inspection: TeacherInspection, draw: Draw, height: float) -> Figure:
    num_parts = len(inspection.parts)
    figure = Figure(figsize=(_PART_WIDTH * num_parts, height), layout="constrained")
    for place, part in enumerate(inspection.parts):
        axes = figure.add_subplot(1, num_parts, place + 1)
        axes.set_title(caption(part), fontsize=9)
        draw(axes, part)
    return figure


def _draw_right(axes: Axes, part: TargetQuality) -> None:
    """How often the teachers and their mixtures are right."""
    names = list(RULE_NAMES.values())[::-1]
    shares = [100 * part.right[rule] for rule in RULE_NAMES][::-1]
    colors = [_COLORS.get(rule, _MIXTURE) for rule in RULE_NAMES][::-1]
    bars = axes.barh(names, shares, color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("right, % of the videos")


def _draw_disagreements(axes: Axes, part: TargetQuality) -> None:
    """Where the teachers disagree: who is right, by score."""
    names = bin_names([(each.low, each.high) for each in part.score_bins])
    bottom = np.zeros(len(names))
    for title, color, counts in (
        ("only the invariant teacher is right", _INVARIANT, "invariant_right"),
        ("only the distinctive teacher is right", _DISTINCTIVE, "distinctive_right"),
        ("both are wrong", _NONE, "neither_right"),
    ):
        shares = np.array(
            [100 * getattr(each, counts) / each.num_videos for each in part.score_bins]
        )
        axes.bar(range(len(names)), shares, bottom=bottom, color=color, label=title)
        bottom += shares
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("temporal similarity s (bins of about equally many videos)")
    axes.set_ylabel("teachers disagree, % of the bin's videos")
    axes.set_ylim(0, 145)  # room for the legend
    axes.set_yticks(range(0, 101, 20))
    axes.legend(frameon=False, loc="upper left")


def _draw_reliability(axes: Axes, part: TargetQuality) -> None:
    """How often predictions are right, by their confidence."""
    axes.plot([0, 100], [0, 100], color=_NONE, linewidth=1)
    for rule, color, marker in (
        (TeacherWeights.INVARIANT, _INVARIANT, "o"),
        (TeacherWeights.DISTINCTIVE, _DISTINCTIVE, "s"),
        (TeacherWeights.SIMILARITY, _MIXTURE, "^"),
    ):
        curve = part.reliability[rule]
        known = [
            (100 * each.confidence, 100 * each.right, each.num_videos)
            for each in curve.bins
            if each.confidence is not None and each.right is not None
        ]
        x, y, sizes = (np.array(values) for values in zip(*known, strict=True))
        name = f"{RULE_NAMES[rule]}, ECE {100 * curve.ece:.1f} %"
        axes.plot(x, y, color=color, linewidth=1)
        axes.scatter(x, y, s=12 + 120 * sizes / part.num_videos, color=color, marker=marker)
        axes.plot([], [], color=color, marker=marker, markersize=4, label=name)
    axes.set_xlim(0, 103)
    axes.set_ylim(0, 135)  # room for the legend
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("confidence (largest probability), %")
    axes.set_ylabel("right, %")
    axes.legend(frameon=False, loc="upper left")


def bin_names(edges: Sequence[tuple[float, float]]) -> list[str]:
    """Two lines for each bin, "0.25" and "to 0.50".

    The numbers have enough digits, at most 6, to tell the edges of every bin apart.
    """
    digits, narrowest = 2, min((high - low for low, high in edges if high > low), default=1.0)
    while digits < 6 and 10**-digits > narrowest:
        digits += 1
    return [f"{low:.{digits}f}\nto {high:.{digits}f}" for low, high in edges]


def _draw_scores(axes: Axes, part: TargetQuality) -> None:
    """The similarity scores of each class."""
    ordered = sorted(part.classes, key=lambda each: each.quantiles[2])
    boxes = [
        dict(zip(("whislo", "q1", "med", "q3", "whishi"), each.quantiles, strict=True))
        for each in ordered
    ]
    axes.bxp(
        boxes,
        orientation="horizontal",
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": "#bcd0e8", "edgecolor": _INVARIANT},
        medianprops={"color": _INVARIANT},
    )
    axes.set_yticks(range(1, len(ordered) + 1), [each.name for each in ordered])
    axes.ticklabel_format(axis="x", useOffset=False)  # scores near 1 stay readable
    axes.set_xlabel("temporal similarity s: lowest, quarters, highest")


def _draw_classes(axes: Axes, part: TargetQuality) -> None:
    """How often the teachers and their mixtures are right in each class."""
    places = np.arange(len(part.classes), 0, -1)  # the first class is at the top
    marks = ((_INVARIANT, "o"), (_DISTINCTIVE, "s"), ("#718096", "^"), (_MIXTURE, "D"))
    for place, (rule, (color, marker)) in enumerate(zip(CLASS_RULES, marks, strict=True)):
        shares = [100 * each.right[rule] for each in part.classes]
        # The marks are one below the other, so that equal shares do not hide each other.
        heights = places + 0.27 - 0.18 * place
        name = RULE_NAMES[rule]
        axes.scatter(shares, heights, s=24, color=color, marker=marker, label=name)
    axes.set_yticks(places, [each.name for each in part.classes])
    axes.set_ylim(0.4, len(part.classes) + 2.4)  # room for the legend
    axes.set_xlim(-3, 103)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("right, % of the class's videos")
    axes.grid(axis="y", color="#edf2f7")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper left", ncols=2)
