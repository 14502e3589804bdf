from io import BytesIO
from pathlib import Path

from matplotlib.image import imread

from tb.tables.claims import Comparison
from tb.tables.parts import write_parts
from tb.tables.statistics import Estimate


def part(mean: float, half: float | None, p_value: float | None) -> Comparison:
    difference = Estimate(mean=mean, half=half, num=3 if half else 1)
    return Comparison(row="with", rival="without", difference=difference, p_value=p_value)


def test_the_page_and_the_picture_show_every_part(tmp_path: Path) -> None:
    pictures = []
    for second in (part(-1.25, 0.5, 0.03), part(-9.0, 0.5, 0.03)):
        paths = write_parts(
            tmp_path,
            title="What each part brings",
            notes=["5 seeds."],
            parts={"the start": part(11.0, None, None), "the score": second},
            command="tb reproduce table1",
        )
        assert [path.name for path in paths] == ["parts.md", "parts.png"]
        pictures.append(imread(BytesIO(paths[1].read_bytes())))
    lines = paths[0].read_text().splitlines()
    assert "| the start | with | without | +11.0 | - | fewer than 3 seeds: no verdict |" in lines
    assert "| the score | with | without | -9.0 ± 0.5 | 0.030 | worse |" in lines
    assert "![The differences of the table](parts.png)" in lines
    assert pictures[0].shape != pictures[1].shape or (pictures[0] != pictures[1]).any()
