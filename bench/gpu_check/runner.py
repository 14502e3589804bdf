"""Runs the steps one by one, each in a separate process, so that a crash ends only that process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu_check.findings import Findings, is_good, read_json
from bench.gpu_check.report import write_report
from bench.gpu_check.timetable import EXIT_START_AGAIN, NO_TIME, SPARE_S, STEPS, Duration
from shards.errors import InputError
from shards.files.lock import locked
from shards.files.publish import publish_bytes

ROOT = Path(__file__).resolve().parents[2]
_LEAST_S = 5.0  # a step with less time is not begun
_GRACE_S = 10.0  # a late step is stopped only after these seconds, so that its running cell can end


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What the command was asked to do.

    Attributes:
        out: The folder of the check.
        videos: Folder of class folders with videos; None to make videos.
        duration: How much is measured.
        steps: The steps to run.
        is_dry: Whether the CPU stands in for the GPU.
    """

    out: Path
    videos: Path | None
    duration: Duration
    steps: Sequence[str]
    is_dry: bool


def run_steps(options: CheckOptions) -> bool:
    """Runs the steps that have not passed yet; returns whether all of them have.

    Raises:
        InputError: There is no GPU, or `out` holds the check of another one or is in use.
    """
    device = _device_name(options.is_dry)
    (options.out / "steps").mkdir(parents=True, exist_ok=True)
    with locked(options.out / ".lock", f"{options.out}: another check writes there"):
        _claim(options, device)
        began_s = time.time()
        end_s = began_s + 60 * options.duration - SPARE_S
        for index, name in enumerate(options.steps):
            _run(name, options, _step_end_s(options, index, end_s))
            paths = write_report(options.out)
        print(f"written to {' and '.join(map(str, paths))}; {time.time() - began_s:.0f} s")
    found = [Findings.read(_file(options, name)) for name in options.steps]
    have_passed = all(findings.status == "passed" for findings in found)
    if not have_passed:
        print("not everything has passed; the same command goes on with the rest")
    return have_passed


def _step_end_s(options: CheckOptions, index: int, end_s: float) -> float:
    """When a step should end: it gets its share of the time that is left for it and the later ones.

    So all later steps share the time that a step leaves over or takes in addition.
    """
    step, now_s = STEPS[options.steps[index]], time.time()
    if step.is_needed:
        return end_s
    wanted_s = [STEPS[name].seconds(options.duration) for name in options.steps[index:]]
    return now_s + (end_s - now_s) * wanted_s[0] / sum(wanted_s)


def _device_name(is_dry: bool) -> str:
    if is_dry:
        return "dry run"
    import torch  # slow, and a dry run starts often

    if not torch.cuda.is_available():
        raise InputError("no CUDA device; --dry-run runs the steps on the CPU")
    return torch.cuda.get_device_name()


def _claim(options: CheckOptions, device: str) -> None:
    """Notes the device in the folder; InputError if it holds the check of another one."""
    path = options.out / "check.json"
    if path.is_file() and (before := read_json(path).get("device")) != device:
        raise InputError(f"{options.out}: holds the check of {before!r}; give another --out")
    content = {"device": device, "dry_run": options.is_dry, "minutes": options.duration.value}
    publish_bytes(path, (json.dumps(content) + "\n").encode())


def _file(options: CheckOptions, step: str) -> Path:
    return options.out / "steps" / f"{step}.json"


def _run(name: str, options: CheckOptions, end_s: float) -> None:
    """Runs a step to its end, in as many processes as it takes."""
    path, began_s = _file(options, name), time.time()
    findings = Findings.read(path)
    if findings.status == "passed" and findings.minutes >= options.duration:
        print(f"{name:13s} passed before")
        return
    if findings.status == "running":
        print(f"{name:13s} goes on; it was stopped in {findings.cell or 'no cell'}")
    findings.forget_problems()
    findings.status, findings.cell = "running", None
    findings.save()
    print(f"{name:13s}", end=" ", flush=True)
    error = _run_processes(name, options, end_s)
    findings = Findings.read(path)
    findings.seconds = round(findings.seconds + time.time() - began_s, 1)
    findings.finish(error, options.duration)
    print(f"{findings.status} in {findings.seconds} s", flush=True)
    for cell, figures in findings.found.items():
        if not is_good(figures):
            print(f"  {cell}: {str(figures.get('problem', figures))[:200]}", flush=True)
    if error:
        print(f"  the rest: {error}", flush=True)


def _run_processes(name: str, options: CheckOptions, end_s: float) -> str:
    """Runs a step to its end; returns why it ended early, or ""."""
    while (left_s := end_s - time.time()) > _LEAST_S:
        code = _run_process(name, options, end_s, left_s + _GRACE_S)
        if code == 0:
            return ""
        if code == EXIT_START_AGAIN:
            continue
        problem = _ending(code, options, name)
        findings = Findings.read(_file(options, name))
        if findings.cell is None:
            return problem
        # That cell ended the process. The others can go on.
        findings.end_cell(findings.cell, {"problem": problem})
    return NO_TIME


def _ending(code: int | None, options: CheckOptions, name: str) -> str:
    """Why a step's process ended; its exit code is None if it had to be stopped."""
    if code is None:
        return NO_TIME
    if code == -signal.SIGALRM:
        return f"stopped, because it did not return; {_log(options, name).name} says where it was"
    return f"exit code {code}: {_last_line(options, name)}"


def _run_process(name: str, options: CheckOptions, end_s: float, limit_s: float) -> int | None:
    """Runs a step in one process; returns its exit code, None if it had to be stopped."""
    command = [sys.executable, "-m", "bench.gpu_check.step", name, "--out", str(options.out)]
    command += ["--minutes", str(options.duration.value), "--end-s", str(end_s)]
    command += ["--parent", str(os.getpid())]
    if options.videos is not None:
        command += ["--videos", str(options.videos)]
    if options.is_dry:
        command.append("--dry-run")
    with _log(options, name).open("ab") as log:
        try:
            done = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=log, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return None
    return done.returncode


def _log(options: CheckOptions, name: str) -> Path:
    return _file(options, name).with_suffix(".log")


def _last_line(options: CheckOptions, name: str) -> str:
    """The last line that a step has printed."""
    lines = _log(options, name).read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
