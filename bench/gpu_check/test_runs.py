"""Step `tests`: the tests that need a GPU, in this process, so that they end with the step."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.task import CheckCell, Task
from bench.gpu_check.timetable import Duration

ROOT = Path(__file__).resolve().parents[2]


def cells(task: Task) -> Iterator[CheckCell]:
    """Order and resume, bad videos, then the tests marked `gpu`; in a dry run some on the CPU.

    The short check runs only the loaders' tests.
    """
    device, dali = task.device.type, "tests/loaders/engines/dali"
    order = "order" if task.is_dry else "layout or resume or order or kept"
    faults = "stops" if task.is_dry else "bad or changed or blamed"
    every = dali if task.is_dry else "tests" if task.duration is Duration.LONG else "tests/loaders"
    for name, chosen in (("order and resume", order), ("bad videos", faults)):
        arguments = ("-m", "not slow", "-k", f"({chosen}) and {device}", dali)
        yield CheckCell(name=name, run=partial(_run, task, name, *arguments))
    yield CheckCell(name="all", run=partial(_run, task, "all", "-m", "gpu", "--maxfail=5", every))


def _run(task: Task, name: str, *selection: str) -> CellFigures:
    """Runs pytest; returns the counts of its outcomes. The log of the step has its output."""
    report = task.out / "steps" / f"tests {name}.xml"
    os.environ["TB_REQUIRE_GPU"] = "0" if task.is_dry else "1"
    paths = [*selection[:-1], str(ROOT / selection[-1])]
    scratch = f"--basetemp={task.work / 'pytest'}"
    options = ["-v", "-n", "0", "-p", "no:cacheprovider", f"--rootdir={ROOT}", scratch]
    status = pytest.main([*options, f"--junitxml={report}", *paths])
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    broken = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return {
        "tests": int(suite.attrib["tests"]),
        "failed": len(broken),
        "skipped": int(suite.attrib["skipped"]),
        "passed": status == 0,
        **({"names": broken} if broken else {}),
    }
