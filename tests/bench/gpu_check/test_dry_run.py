"""Dry runs of both durations are killed several times, keep their figures, and finish."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.gpu_check.runner import ROOT
from bench.gpu_check.task import RECIPES
from bench.gpu_check.timetable import STEPS, Duration
from bench.peers import torchcodec_decoder
from loaders.engines.dali.graph import OPERATORS

_NUM_KILLS = 5
# A busy machine may have no time for all cells. The next start measures the others.
_MAX_STARTS = 30
# The cells of the loaders that measure no speed.
SOAKS = ("soak dali", "soak fused")


def _start(out: Path, duration: Duration) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.gpu_check", "--dry-run", "--out", str(out)]
    return subprocess.Popen(
        [*command, "--minutes", str(duration.value)], cwd=ROOT, stdout=subprocess.DEVNULL
    )


def _steps(out: Path) -> dict[str, Any]:
    """The files of all steps; each must be whole at any time."""
    return {path.stem: json.loads(path.read_text()) for path in (out / "steps").glob("*.json")}


def _cells(out: Path) -> dict[tuple[str, str], Any]:
    """(step, cell) -> figures, of the cells that were measured."""
    return {
        (name, cell): figures
        for name, step in _steps(out).items()
        for cell, figures in step["found"].items()
        if "problem" not in figures
    }


def _kill_after(
    process: subprocess.Popen[bytes], out: Path, num_cells: int, delay_s: float
) -> dict[tuple[str, str], Any]:
    """Kills the check when it has measured so many more cells, and a moment later.

    Returns:
        What it had measured when it was killed.
    """
    goal = len(_cells(out)) + num_cells
    while process.poll() is None and len(_cells(out)) < goal:
        time.sleep(0.02)
    time.sleep(delay_s)
    measured = _cells(out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _processes_of(out):  # the kernel ends them, because their parent is gone
        time.sleep(0.02)
    return measured


def _processes_of(out: Path) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if os.fsencode(out) in arguments:
            found.append(folder.name)
    return found


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_both_checks_survive_being_killed(tmp_path: Path) -> None:
    chance = random.Random(13)
    measured: dict[tuple[str, str], Any] = {}
    for duration in Duration:
        for _ in range(_NUM_KILLS):
            process = _start(tmp_path, duration)
            known = _kill_after(process, tmp_path, chance.randrange(9), chance.uniform(0, 2))
            assert measured.items() <= known.items()  # none is lost, and none is measured again
            measured = known
            assert measured.items() <= _cells(tmp_path).items()
            for step in _steps(tmp_path).values():
                assert step["cell"] is None or step["status"] == "running"
        for _ in range(_MAX_STARTS):
            if (code := _start(tmp_path, duration).wait()) != 1:
                break
        assert code == 0, _problems(tmp_path)
        assert measured.items() <= _cells(tmp_path).items()
        _check_results(tmp_path, duration)


def _problems(out: Path) -> list[Any]:
    return [
        (name, cell, figures)
        for name, step in _steps(out).items()
        for cell, figures in step["found"].items()
        if "problem" in figures or not figures.get("passed", True)
    ]


def _check_results(out: Path, duration: Duration) -> None:
    results = json.loads((out / "dry-run.json").read_text())
    assert (results["dry_run"], results["minutes"]) == (True, duration)
    assert list(results["steps"]) == list(STEPS)
    assert {step["status"] for step in results["steps"].values()} == {"passed"}
    found = {name: step["found"] for name, step in results["steps"].items()}
    assert list(found["videos"]) == ["videos", *RECIPES]
    assert list(found["operators"])[1 : 1 + len(OPERATORS)] == list(OPERATORS)
    assert all(cell["frames_per_s"] > 0 for cell in found["decoding"].values())
    whole, windows = (
        found["decoding"][f"vp9 {kind} 1x2"]["frames_per_video"]
        for kind in ("whole files", "windows")
    )
    assert whole >= windows > 0
    soaks = {name: found["loaders"].pop(name) for name in SOAKS if name in found["loaders"]}
    assert set(soaks) == (set(SOAKS) if duration is Duration.LONG else set())
    for cell in soaks.values():
        assert cell.items() >= {"epochs": 3, "grown": [], "passed": True}.items()
    for name, cell in found["loaders"].items():
        # torchcodec needs FFmpeg's libraries.
        is_missing = name.endswith("torchcodec") and not _torchcodec_is_usable()
        assert cell["missing"] if is_missing else cell["videos_per_s"] > 0, name
    assert all(
        "step_s" in cell or "teraflop_per_video" in cell for cell in found["training"].values()
    )
    assert len(found["parity"]) == (8 if duration is Duration.SHORT else 18)
    for name in ("order and resume", "bad videos"):
        assert found["tests"][name]["tests"] > found["tests"][name]["skipped"] == 0
    # Those marked gpu, which a dry run selects but cannot run without a GPU.
    assert found["tests"]["all"]["tests"] > 10
    if not torch.cuda.is_available():
        assert found["tests"]["all"]["skipped"] == found["tests"]["all"]["tests"]
    page = (out / "dry-run.md").read_text()
    assert "A dry run on a CPU" in page
    assert "| distinctive | 32 | dali |" in page


def _torchcodec_is_usable() -> bool:
    try:
        torchcodec_decoder()
    except ImportError:
        return False
    return True
