"""Draws bench/results as docs/pictures/throughput.svg: `python -m bench.chart`.

The picture is an SVG with its own style sheet, because it follows the reader's system in light or
dark colours. The same figures give the same bytes.
"""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "docs" / "pictures" / "throughput.svg"
RESULTS = ROOT / "bench" / "results"
PANELS = {
    "student, 112 px: one clip of 8 frames": "loader_cpu_student_112.json",
    "student, 224 px": "loader_cpu_student_224.json",
    "pretrain, 112 px: ten clips of 16 frames": "loader_cpu_112.json",
    "pretrain, 224 px": "loader_cpu_224.json",
}
TITLES = {
    "fused": "fused (this toolkit)",
    "torchcodec": "torchcodec + torchvision",
    "spdl": "SPDL + torch",
    "spdl-threads": "SPDL in threads + torch",
    "video-reader-rs": "video-reader-rs + torch",
    "decord2": "decord2 + torchvision",
    "torchcodec-jitter": "torchcodec + ColorJitter",
    "pytorchvideo": "PyTorchVideo",
    "dali-cpu": "DALI on the CPU",
    "decode only": "FFmpeg decoding only",
}
WIDTH_PX, LABEL_PX, BAR_PX, ROW_PX, PANEL_GAP_PX = 480, 180, 240, 19, 34
STYLE = """
    text { fill: #1f2328; } .value { fill: #57606a; } .title { font-weight: 600; }
    .peer { fill: #8c959f; } .ours { fill: #00897b; } .only { fill: none; stroke: #8c959f; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; } .value { fill: #b0b8c1; }
      .peer { fill: #6e7781; } .ours { fill: #26a69a; }
    }
"""


def chart(results: Path = RESULTS) -> str:
    """The SVG: a panel for each kind of view, with a bar for each loader, in videos per second."""
    lines, y = [], 22
    for title, name in PANELS.items():
        rows = json.loads((results / name).read_text())["rows"]
        speeds = {row["name"]: row["videos_per_s"] for row in rows if row["name"] in TITLES}
        lines.append(f'<text class="title" x="0" y="{y}">{title}</text>')
        for row, loader in enumerate(name for name in TITLES if name in speeds):
            lines += _bar(loader, speeds[loader], max(speeds.values()), y + 8 + row * ROW_PX)
        y += len(speeds) * ROW_PX + PANEL_GAP_PX
    lines.append(f'<text class="value" x="0" y="{y - 8}">videos a second, on two CPU cores</text>')
    body = "\n  ".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {y}" width="{WIDTH_PX}"'
        f' height="{y}" font-family="system-ui, sans-serif" font-size="13">\n'
        f"  <style>{STYLE}  </style>\n  {body}\n</svg>\n"
    )


def _bar(loader: str, speed: float, best: float, y: int) -> list[str]:
    kind = {"fused": "ours", "decode only": "only"}.get(loader, "peer")
    length = round(BAR_PX * speed / best, 1)
    return [
        f'<text x="{LABEL_PX - 8}" y="{y + 12}" text-anchor="end">{TITLES[loader]}</text>',
        f'<rect class="{kind}" x="{LABEL_PX}" y="{y + 2}" width="{length}" height="{ROW_PX - 6}"/>',
        f'<text class="value" x="{LABEL_PX + length + 6}" y="{y + 12}">{speed:.0f}</text>',
    ]


if __name__ == "__main__":
    CHART.write_text(chart())
    print(CHART.relative_to(ROOT))
