"""The report of a check: all figures as one JSON file, and a page for docs with the verdicts."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.gpu_check.findings import CellFigures, all_findings, is_good, read_json
from bench.gpu_check.timetable import STEPS
from shards.errors import InputError
from shards.files.publish import publish_bytes

# A loader must give this many times what the step eats. Otherwise the GPU waits at times.
_COMFORTABLE = 1.5
# Stage of the training step -> the views that feed it.
_VIEWS_OF = {"distinctive": "pretrain", "student": "student"}
StepFigures = dict[str, dict[str, CellFigures]]


def write_report(out: Path, *, page: Path | None = None, data: Path | None = None) -> list[Path]:
    """Writes OUT/GPU.json and OUT/GPU.md from the findings in `out`.

    Args:
        out: The folder of a check; it may be running, or have been killed.
        page: Where the page is written instead; its folder is made if it is missing.
        data: Where the figures are written instead, likewise.

    Returns:
        The files.

    Raises:
        InputError: `out` holds no check.
    """
    if not (out / "check.json").is_file():
        raise InputError(f"{out}: holds no check; run python -m bench.gpu_check --out {out}")
    results = results_of(out)
    name = slug(results["device"])
    data, page = data or out / f"{name}.json", page or out / f"{name}.md"
    for path in (data, page):
        path.parent.mkdir(parents=True, exist_ok=True)
    publish_bytes(data, (json.dumps(results, indent=1) + "\n").encode())
    publish_bytes(page, page_of(results).encode())
    return [data, page]


def results_of(out: Path) -> dict[str, Any]:
    """The check in `out`: its device, and what every step has found so far."""
    known = all_findings(out)
    steps = {name: known[name].content for name in STEPS if name in known}
    return {**read_json(out / "check.json"), "steps": steps}


def slug(name: str) -> str:
    """A GPU's name as a file's: "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def page_of(results: dict[str, Any]) -> str:
    """The page, in Markdown."""
    steps: StepFigures = {name: step["found"] for name, step in results["steps"].items()}
    parts = [f"# {results['device']}", "Written by `python -m bench.gpu_check report`."]
    if results["dry_run"]:
        parts.append(
            "**A dry run on a CPU: it shows that the steps run. Its figures mean nothing.**"
        )
    parts += [
        _statuses(results["steps"]),
        "## Supply and demand\n\n" + _verdicts(steps),
        "## Frames per video\n\n" + _designs(steps),
        *(f"## {name.capitalize()}\n\n" + _cells(found) for name, found in steps.items() if found),
    ]
    return "\n\n".join(parts) + "\n"


def _statuses(steps: dict[str, Any]) -> str:
    rows = []
    for name, step in steps.items():
        bad = [cell for cell, figures in step["found"].items() if not is_good(figures)]
        stopped = f"stopped in {step['cell']}" if step["cell"] else step["error"]
        problems = "; ".join(filter(None, [*bad, stopped]))
        rows.append((name, step["status"], f"{step['seconds']:.0f}", problems))
    return _table(("step", "status", "s", "not measured or not passed"), rows)


def _verdicts(steps: StepFigures) -> str:
    """A table of what loaders give and what the training step eats, by stage and size."""
    rows = []
    for cell, ready in steps.get("training", {}).items():
        stage, size, row = cell.split(" ", 2)
        if row != "ready in memory" or not is_good(ready):
            continue
        demand = ready["videos_per_s"]
        supply = _supply(steps.get("loaders", {}), f"{_VIEWS_OF[stage]} {size} h264 ")
        waits = [
            f"{engine} {_wait(steps['training'].get(f'{stage} {size} from {engine}'), ready)}"
            for engine in ("dali", "fused")
        ]
        for engine, given in supply.items():
            rows.append(
                (
                    *(stage, size, engine, f"{given:.0f}", f"{demand:.1f}"),
                    *(f"{given / demand:.2f}", verdict(given, demand)),
                )
            )
        rows.append((stage, size, "waits for data", "", "", "", ", ".join(waits)))
    names = ("stage", "px", "loader", "gives videos/s", "step eats videos/s", "ratio", "verdict")
    return _table(names, rows) if rows else "No training step was measured."


def verdict(given: float, demand: float) -> str:
    """What limits a training, by the videos/s that its loader gives and its step could take."""
    if given < demand:
        return "data-bound"
    return "compute-bound" if given >= _COMFORTABLE * demand else "compute-bound, with little spare"


def _supply(loaders: dict[str, CellFigures], prefix: str) -> dict[str, float]:
    """Engine or peer -> videos/s."""
    return {
        cell.removeprefix(prefix): figures["videos_per_s"]
        for cell, figures in loaders.items()
        if cell.startswith(prefix) and "videos_per_s" in figures
    }


def _wait(loaded: CellFigures | None, ready: CellFigures) -> str:
    """The share of a step that the loader adds to it."""
    if loaded is None or "step_s" not in loaded:
        return "not measured"
    return f"{max(0.0, 1 - ready['step_s'] / loaded['step_s']):.1%}"


def _designs(steps: StepFigures) -> str:
    """Frames that are decoded for a video, and videos/s, of each way to decode."""
    rows = [
        (cell, figures["frames_per_video"], figures["videos_per_s"], figures["frames_per_s"])
        for cell, figures in steps.get("decoding", {}).items()
        if "frames_per_s" in figures
    ]
    fused = _supply(steps.get("loaders", {}), "pretrain ")
    rows += [
        (f"pretrain {cell}", "-", given, "-") for cell, given in fused.items() if "fused" in cell
    ]
    names = ("design", "frames per video", "videos/s", "frames/s")
    return _table(names, rows) if rows else "No decoding was measured."


def _cells(found: dict[str, CellFigures]) -> str:
    """Every cell of a step, with all its figures."""
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    rows = [
        (cell, *(_text(figures.get(name)) for name in names)) for cell, figures in found.items()
    ]
    return _table(("", *names), rows)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(
        "| " + " | ".join(str(value).replace("|", "\\|") for value in line) + " |" for line in lines
    )
