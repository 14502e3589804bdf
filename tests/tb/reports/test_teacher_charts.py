"""The charts of `tb inspect teachers`: what is drawn, read from the axes."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer

from tb.evaluation.reliability import NUM_BINS, ConfidenceBin, Reliability
from tb.method.target_quality import EITHER, ClassScores, ScoreBin, TargetQuality
from tb.method.teacher_inspection import TeacherInspection
from tb.reports.teacher_charts import CLASS_RULES, RULE_NAMES, bin_names, chart_figures
from tests.tb.calibrations import calibration

RIGHT = {
    "invariant": 0.10,
    "distinctive": 0.70,
    "similarity": 0.30,
    "stretched": 0.40,
    "calibrated": 0.80,
    "hindsight": 0.85,
    "equal": 0.50,
    EITHER: 0.90,
}
CURVES = {"invariant": (0.85, 0.10), "distinctive": (0.75, 0.70), "similarity": (0.65, 0.30)}


def curve(confidence: float, right: float) -> Reliability:
    """All 20 videos are in one bin; the others are empty."""
    own = int(confidence * NUM_BINS)
    bins = [
        ConfidenceBin(
            low=place / NUM_BINS,
            high=(place + 1) / NUM_BINS,
            num_videos=20 * (place == own),
            confidence=confidence if place == own else None,
            right=right if place == own else None,
        )
        for place in range(NUM_BINS)
    ]
    return Reliability(bins=bins, ece=confidence - right)


def inspection() -> TeacherInspection:
    """20 unlabelled videos of two classes, with a different number for everything."""
    part = TargetQuality(
        part="unlabelled",
        hidden_labels=True,
        judged_by="the fine-tuned teachers",
        num_videos=20,
        right=RIGHT,
        log_likelihood={},
        order=0.9,
        score_bins=[
            ScoreBin(
                low=low,
                high=low + 0.25,
                num_videos=10,
                invariant_right=one,
                distinctive_right=two,
                neither_right=none,
            )
            for low, one, two, none in ((0.25, 1, 5, 2), (0.5, 3, 4, 0))
        ],
        reliability={name: curve(*numbers) for name, numbers in CURVES.items()},
        classes=[
            ClassScores(
                name=name,
                num_videos=10,
                quantiles=[low, low + 0.1, low + 0.2, low + 0.3, low + 0.4],
                right={rule: share / half for rule, share in RIGHT.items()},
            )
            for name, low, half in (("wave", 0.5, 1), ("hop", 0.1, 2))
        ],
    )
    return TeacherInspection(hidden_labels=True, calibration=calibration(), parts=[part], source={})


def drawn(name: str) -> Axes:
    """The axes of the chart, which has one part."""
    (axes,) = chart_figures(inspection())[name].axes
    assert "20 unlabelled training videos,\nhidden labels" in axes.get_title()
    return axes


def tick_names(axes: Axes, which: str) -> list[str]:
    labels = axes.get_xticklabels() if which == "x" else axes.get_yticklabels()
    return [label.get_text() for label in labels]


def test_each_bar_has_the_share_of_its_name() -> None:
    axes = drawn("right")
    (bars,) = axes.containers
    assert isinstance(bars, BarContainer)
    found = dict(zip(tick_names(axes, "y"), (bar.get_width() for bar in bars), strict=True))
    assert found == {RULE_NAMES[rule]: 100 * share for rule, share in RIGHT.items()}


def test_each_bin_shows_who_is_right_where_the_teachers_disagree() -> None:
    axes = drawn("disagreements")
    found = {
        bars.get_label(): [(bar.get_y(), bar.get_height()) for bar in bars]
        for bars in axes.containers
        if isinstance(bars, BarContainer)
    }
    assert found == {  # where a bar begins, and its height, in percent of the bin's 10 videos
        "only the invariant teacher is right": [(0, 10), (0, 30)],
        "only the distinctive teacher is right": [(10, 50), (30, 40)],
        "both are wrong": [(60, 20), (70, 0)],
    }
    assert tick_names(axes, "x") == ["0.25\nto 0.50", "0.50\nto 0.75"]


def test_each_reliability_curve_has_its_name_and_its_error() -> None:
    axes = drawn("reliability")
    handles, names = axes.get_legend_handles_labels()
    assert names == [
        f"{RULE_NAMES[rule]}, ECE {100 * (confidence - right):.1f} %"
        for rule, (confidence, right) in CURVES.items()
    ]
    for handle, points, numbers in zip(handles, axes.collections, CURVES.values(), strict=True):
        assert np.array(points.get_offsets()) == pytest.approx(100 * np.array([numbers]))
        (line,) = (x for x in axes.lines if x.get_xdata() == pytest.approx([100 * numbers[0]]))
        assert handle.get_color() == line.get_color()  # type: ignore[attr-defined]
        color = np.array(points.get_facecolor())[0, :3]
        assert to_rgb(line.get_color()) == pytest.approx(tuple(color))


def test_each_box_has_the_scores_of_its_class() -> None:
    axes = drawn("scores")
    assert tick_names(axes, "y") == ["hop", "wave"]
    assert axes.get_yticks().tolist() == [1, 2]
    for place, low in ((1, 0.1), (2, 0.5)):
        lines = [line for line in axes.lines if round(np.mean(line.get_ydata())) == place]
        ends = {round(float(x), 6) for line in lines for x in line.get_xdata()}
        assert sorted(ends) == pytest.approx([low, low + 0.1, low + 0.2, low + 0.3, low + 0.4])
        (median,) = (line for line in lines if line.get_color() != "black")
        assert median.get_xdata() == pytest.approx([low + 0.2] * 2)


def test_each_class_shows_its_teachers_and_mixtures() -> None:
    axes = drawn("classes")
    assert tick_names(axes, "y") == ["wave", "hop"]
    assert axes.get_yticks().tolist() == [2, 1]
    found = {points.get_label(): points.get_offsets() for points in axes.collections}
    assert list(found) == [RULE_NAMES[rule] for rule in CLASS_RULES]
    for rule in CLASS_RULES:
        shares, places = np.array(found[RULE_NAMES[rule]]).T
        assert shares == pytest.approx([100 * RIGHT[rule], 50 * RIGHT[rule]])
        assert places.round().tolist() == [2, 1]


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ([(0.25, 0.5), (0.5, 1.0)], ["0.25\nto 0.50", "0.50\nto 1.00"]),
        # As for a teacher that finds the moments of every video alike.
        ([(0.9912, 0.9968), (0.9968, 0.9981)], ["0.991\nto 0.997", "0.997\nto 0.998"]),
        ([(0.5, 0.5), (0.5, 0.7)], ["0.50\nto 0.50", "0.50\nto 0.70"]),
    ],
)
def test_a_bin_has_digits_enough_to_tell_its_edges_apart(
    edges: list[tuple[float, float]], names: list[str]
) -> None:
    assert bin_names(edges) == names
