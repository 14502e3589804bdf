"""What a check keeps of steps that fail, crash or have no time, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.gpu_check import runner
from bench.gpu_check.__main__ import main
from bench.gpu_check.findings import Findings
from bench.gpu_check.timetable import NO_TIME, STEPS, CheckStep, Duration, with_needed
from tests.processes import is_alive, wait_until_dead

# A module of cells, in the place of a step's. `sitecustomize` runs before everything else.
_CELLS = """
import os, signal, time
from bench.gpu_check.task import CheckCell

def fails():
    raise ValueError("no such frame")

def has_no_library():
    raise ImportError("no module named x")

def cells(task):
    yield CheckCell(name="first", run=lambda: {"videos_per_s": 7})
    yield CheckCell(name="ends the process", run=lambda: os.kill(os.getpid(), signal.SIGKILL))
    yield CheckCell(name="fails", run=fails)
    yield CheckCell(name="has no library", run=has_no_library)
    yield CheckCell(name="does not pass", run=lambda: {"psnr_db": 12, "passed": False})
    yield CheckCell(name="only in the long check", run=lambda: {"x": 1}, is_long=True)
    yield CheckCell(name="last", run=lambda: {"videos_per_s": 8})
"""
_SITE = """
from bench.gpu_check import timetable
timetable.STEPS["capabilities"] = timetable.CheckStep(module="made_up_cells", short_s=60, long_s=60)
"""
DRY = ("--dry-run", "--steps", "capabilities", "--out")


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the module `made_up_cells`, whose cells are those of `capabilities`."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "made_up_cells.py").write_text(_CELLS)
    (folder / "sitecustomize.py").write_text(_SITE)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{runner.ROOT}")
    return folder


def _found(out: Path, step: str = "capabilities") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "steps" / f"{step}.json").read_text())
    return content


def test_a_cell_that_fails_or_ends_the_process_costs_only_itself(
    made_up: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*DRY, str(out)]) == 1
    step = _found(out)
    assert (step["status"], step["cell"], step["minutes"]) == ("failed", None, 8)
    found = step["found"]
    assert list(found) == [
        *("first", "ends the process", "fails", "has no library", "does not pass", "last"),
    ]
    assert (found["first"]["videos_per_s"], found["last"]["videos_per_s"]) == (7, 8)
    assert found["ends the process"]["problem"].startswith("exit code -9")
    assert found["fails"]["problem"] == "ValueError: no such frame"
    assert found["has no library"]["missing"] == "no module named x"
    printed = capsys.readouterr().out
    assert "ends the process: exit code -9" in printed
    page = (out / "dry-run.md").read_text()
    assert "| capabilities | failed |" in page
    assert "ends the process; fails; does not pass" in page

    # Another start measures only what is missing: with other cells, the step passes.
    harmless = _CELLS.replace("os.kill(os.getpid(), signal.SIGKILL)", "{}")
    harmless = harmless.replace("run=fails", "run=dict").replace(
        '"passed": False', '"passed": True'
    )
    (made_up / "made_up_cells.py").write_text(harmless.replace('"videos_per_s": 7', '"new": 1'))
    assert main([*DRY, str(out), "--minutes", "25"]) == 0
    again = _found(out)
    assert again["status"] == "passed"
    assert again["found"]["first"] == found["first"]
    assert "only in the long check" in again["found"]
    assert main([*DRY, str(out)]) == 0
    assert "passed before" in capsys.readouterr().out


@pytest.mark.slow
def test_a_cell_that_never_returns_costs_only_itself(made_up: Path, tmp_path: Path) -> None:
    """It holds Python's lock, as a library that hangs does."""
    hangs = """
import ctypes
from bench.gpu_check.task import CheckCell

def cells(task):
    yield CheckCell(name="first", run=lambda: {"x": 1})
    yield CheckCell(name="hangs", run=lambda: ctypes.PyDLL(None).pause())
    yield CheckCell(name="last", run=lambda: {"x": 2})
"""
    (made_up / "made_up_cells.py").write_text(hangs)
    (made_up / "sitecustomize.py").write_text(_SITE.replace("60)", "60, cell_limit_s=1)"))
    out = tmp_path / "out"
    assert main([*DRY, str(out)]) == 1
    step = _found(out)
    assert (step["status"], step["cell"]) == ("failed", None)
    assert (step["found"]["first"]["x"], step["found"]["last"]["x"]) == (1, 2)
    assert step["found"]["hangs"]["problem"].startswith("stopped, because it did not return")
    log = (out / "steps" / "capabilities.log").read_text()
    assert "most recent call first" in log
    assert "made_up_cells.py" in log


@pytest.mark.slow
def test_the_cell_of_an_earlier_start_is_not_blamed(made_up: Path, tmp_path: Path) -> None:
    (made_up / "made_up_cells.py").write_text("raise RuntimeError('no such driver')")
    out = tmp_path / "out"
    (out / "steps").mkdir(parents=True)
    path = out / "steps" / "capabilities.json"
    found = {"first": {"videos_per_s": 7}}
    Findings(path=path, status="running", cell="second", found=found).save()
    assert main([*DRY, str(out)]) == 1
    step = _found(out)
    assert (step["status"], step["cell"], step["found"]) == ("failed", None, found)
    assert step["error"] == "exit code 1: RuntimeError: no such driver"


def test_a_step_without_time_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "SPARE_S", 60.0 * Duration.SHORT)
    assert main([*DRY, str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"  the rest: {NO_TIME}\n" in printed
    assert printed.endswith("the same command goes on with the rest\n")
    step = _found(tmp_path)
    assert (step["status"], step["error"], step["found"]) == ("out of time", NO_TIME, {})


def test_chosen_steps_come_in_order_behind_those_that_they_need() -> None:
    assert with_needed(STEPS) == list(STEPS)
    assert with_needed(["capabilities"]) == ["capabilities"]
    chosen = with_needed(["loaders", "decoding"])
    assert chosen == ["capabilities", "videos", "decoding", "loaders"]


def test_both_lengths_end_in_time() -> None:
    for duration in Duration:
        total_s = sum(step.seconds(duration) for step in STEPS.values())
        assert total_s <= 60 * duration - runner.SPARE_S
    assert all(isinstance(step, CheckStep) for step in STEPS.values())


def test_what_a_step_leaves_or_takes_counts_for_the_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1e9
    monkeypatch.setattr(runner.time, "time", lambda: now_s)
    names = list(STEPS)
    options = runner.CheckOptions(
        out=tmp_path, videos=None, duration=Duration.SHORT, steps=names, is_dry=True
    )

    def given_s(name: str, left_s: float) -> float:
        return runner._step_end_s(options, names.index(name), now_s + left_s) - now_s

    wanted_s = [STEPS[name].seconds(Duration.SHORT) for name in names]
    after_s = sum(wanted_s[names.index("decoding") :])
    for factor in (0.5, 1.0, 2.0):  # of the time that was planned
        expected_s = factor * STEPS["decoding"].short_s
        assert given_s("decoding", factor * after_s) == pytest.approx(expected_s)
    assert given_s("tests", 33.0) == pytest.approx(33.0)
    assert given_s("videos", 400.0) == pytest.approx(400.0)  # all others need it


def test_a_step_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """The kernel ends it, also if that process was killed."""
    code = f"""
import os, signal, subprocess, sys
command = [sys.executable, "-c", "import os, time\\nfrom bench.gpu_check.step import _end_with\\n"
           "_end_with(int(os.sys.argv[1]))\\nprint(os.getpid(), flush=True)\\ntime.sleep(600)"]
child = subprocess.Popen([*command, str(os.getpid())], stdout=subprocess.PIPE)
open({str(tmp_path / "pid")!r}, "wb").write(child.stdout.readline())
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=runner.ROOT, check=False)
    pid = int((tmp_path / "pid").read_text())
    wait_until_dead(pid)
    assert not is_alive(pid)


def test_a_folder_belongs_to_one_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "check.json").write_text('{"device": "NVIDIA H100", "dry_run": false}')
    assert main([*DRY, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "holds the check of 'NVIDIA H100'; give another --out" in error


@pytest.mark.parametrize("content", ["", "[]", '{"colour": "red"}'])
def test_a_damaged_file_is_named(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "capabilities.json").write_text(content)
    assert main([*DRY, str(tmp_path)]) == 2
    assert "capabilities.json: not" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "new")]) == 2
    assert "no CUDA device; --dry-run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_killed_cell_keeps_its_name(tmp_path: Path) -> None:
    findings = Findings(path=tmp_path / "step.json")
    with findings.measuring("one") as figures:
        figures["x"] = 1
    between = Findings.read(tmp_path / "step.json")
    assert (between.cell, between.found["one"]["x"]) == (None, 1)
    with findings.measuring("two"):
        during = Findings.read(tmp_path / "step.json")
        assert (during.cell, during.found["one"]["x"]) == ("two", 1)
        assert "two" not in during.found
