"""What each part of the method brings: a page and a picture from the runs of a table."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from shards.files.publish import publish_bytes
from tb.tables.claims import Comparison
from tb.tables.markdown import table_lines
from tb.tables.results import COMPARISON_HEAD, HOW_COMPARED, comparison_cells

_INTRODUCTION = (
    "Each line adds one part to the line before it. Only the last one does not. It is an upper"
    " bound: it reads hidden labels, so it is an analysis and no method. A part that brings nothing"
    " has a difference near 0."
)


def write_parts(
    out: Path, *, title: str, notes: Sequence[str], parts: Mapping[str, Comparison], command: str
) -> list[Path]:
    """Writes OUT/parts.md and OUT/parts.png; returns their paths.

    Args:
        out: The grid's folder.
        title: The heading of the page and the picture.
        notes: Sentences about the data and the seeds.
        parts: Part -> the row with it against the row without it, one or more.
        command: The command that gives the same.
    """
    files = {
        "parts.md": _markdown(title, notes, parts, command).encode(),
        "parts.png": _picture(title, parts),
    }
    for name, content in files.items():
        publish_bytes(out / name, content)
    return [out / name for name in files]


def _markdown(
    title: str, notes: Sequence[str], parts: Mapping[str, Comparison], command: str
) -> str:
    text = [f"# {title}", "", *(f"{note}\n" for note in notes), _INTRODUCTION, ""]
    text += ["```", command, "```", "", "![The differences of the table](parts.png)", ""]
    text += table_lines(
        ("part", *COMPARISON_HEAD),
        ([part, *comparison_cells(found)] for part, found in parts.items()),
    )
    return "\n".join([*text, "", HOW_COMPARED]) + "\n"


def _picture(title: str, parts: Mapping[str, Comparison]) -> bytes:
    figure = Figure(figsize=(9, 1.5 + 0.45 * len(parts)))
    axes = figure.add_subplot()
    axes.axvline(0, color="#888888", linewidth=1)
    for place, found in enumerate(parts.values()):
        difference = found.difference
        axes.errorbar(
            difference.mean, -place, xerr=difference.half or 0, fmt="o", color="#2b6cb0", capsize=4
        )
    axes.set_yticks([-place for place in range(len(parts))], list(parts))
    axes.set_xlabel("what the part adds to top-1, points (95 % interval, over seeds and videos)")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
