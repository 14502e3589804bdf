"""Runs one step in this process, which ends with the process that started it.

`bench.gpu_check.runner` starts it as `python -m bench.gpu_check.step NAME ...`.
"""

import argparse
import ctypes
import faulthandler
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch

from bench.gpu_check.findings import Findings
from bench.gpu_check.memory import give_memory_back
from bench.gpu_check.task import Task
from bench.gpu_check.timetable import EXIT_START_AGAIN, NO_TIME, STEPS, Duration

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Runs the step that the arguments name; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--minutes", type=int, required=True)
    parser.add_argument("--end-s", type=float, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    _end_with(options.parent)
    task = Task(
        device=torch.device("cpu" if options.dry_run else "cuda"),
        out=options.out,
        videos=options.videos,
        duration=Duration(options.minutes),
        end_s=options.end_s,
    )
    return 0 if run_step(options.name, task) else EXIT_START_AGAIN


def run_step(name: str, task: Task) -> bool:
    """Measures the cells that the findings lack; False if one has left the GPU unusable."""
    findings, is_first = Findings.read(task.findings(name)), True
    for cell in import_module(STEPS[name].module).cells(task):
        if cell.name in findings.found or (cell.is_long and task.duration is not Duration.LONG):
            continue
        if task.left_s <= 0 and not is_first:  # a process that starts late measures one cell
            findings.end_cell(cell.name, {"problem": NO_TIME})
            continue
        limit_s = STEPS[name].cell_limit_s * (2 if cell.is_long else 1)
        with findings.measuring(cell.name) as figures, _time_limit(limit_s):
            figures |= cell.run()
        is_first = False
        if not _is_usable(task.device):
            return False
        give_memory_back()
    return True


@contextmanager
def _time_limit(limit_s: float) -> Iterator[None]:
    """Ends this process by SIGALRM after some seconds. It first prints where every thread is.

    This runs no Python code, so it works wherever a library hangs.
    """
    if limit_s == math.inf:
        yield
        return
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _end_with(parent: int) -> None:
    """Makes the kernel end this process when its parent ends, also by kill -9. Linux only."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the process that started this step is gone")


def _is_usable(device: torch.device) -> bool:
    # After some errors CUDA refuses everything else in the process.
    try:
        torch.zeros(1, device=device).item()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
