"""The pictures of the site show the committed figures."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.chart import CHART, PANELS, RESULTS, TITLES, chart

SVG = "{http://www.w3.org/2000/svg}"


def test_the_chart_shows_the_committed_figures() -> None:
    assert CHART.read_text() == chart(), "run `python -m bench.chart`"


def test_bars_are_as_long_as_the_speeds(tmp_path: Path) -> None:
    speeds = {"fused": 80.0, "torchcodec": 20.0, "decode only": 100.0}
    rows = [{"name": name, "videos_per_s": speed} for name, speed in speeds.items()]
    for name in PANELS.values():
        (tmp_path / name).write_text(json.dumps({"rows": rows}))
    picture = ElementTree.fromstring(chart(tmp_path))
    lengths = [float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")]
    assert lengths == pytest.approx([192, 48, 240] * len(PANELS))  # in the order of TITLES


def test_no_loader_of_the_files_is_left_out() -> None:
    for name in PANELS.values():
        rows = json.loads((RESULTS / name).read_text())["rows"]
        assert {row["name"] for row in rows} <= TITLES.keys()


@pytest.mark.parametrize("name", ["throughput", "model"])
def test_pictures_stand_alone(name: str) -> None:
    """A picture must not fetch anything, and it has a dark form."""
    text = CHART.with_name(f"{name}.svg").read_text()
    ElementTree.fromstring(text)
    assert text.count("http") == 1  # the name space
    assert "prefers-color-scheme: dark" in text
