"""Checks and measures on a GPU what cannot be run without one, in a few minutes.

    python -m bench.gpu_check [--out bench/results] [--minutes 8] [--videos FOLDER] [--dry-run]

The steps, in this order: environment, NVDEC's capabilities, shards of every recipe, parity with the
reference engine, determinism and resume, bad videos, throughput (layouts, recipes, peers, and the
load of the GPU during each), the training step, and all tests that need a GPU.

Each step runs in a separate process, so a crash, a hang or a lack of memory ends only that step.
Results are written to OUT/GPU-NAME.json after each step. The exit code is 0 if every step passed.
The check needs no network, and it makes its own videos; FOLDER may hold class folders of videos to
use instead. `--dry-run` runs every step on the CPU, with the CPU's variant of the graph. It shows
that the steps run, and its figures mean nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.gpu_steps import ROOT, STEPS
from bench.gpu_task import Task
from shards.files.publish import publish_bytes

_LEAST_S = 5.0  # a step with less time is not begun


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all steps, or only the step in `--step`; returns the exit code."""
    options = _parse(arguments)
    device = torch.device("cpu" if options.dry_run else "cuda")
    if options.step:
        task = Task(
            device=device,
            work=options.work,
            videos=options.videos,
            out=options.out,
            end_s=options.end_s,
        )
        task.save(STEPS[options.step].run(task))
        return 0
    if device.type == "cuda" and not torch.cuda.is_available():
        print("error: no CUDA device; --dry-run runs the steps on the CPU", file=sys.stderr)
        return 2
    name = "dry-run" if options.dry_run else _slug(torch.cuda.get_device_name())
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        results = run_steps(options, Path(work), options.out / f"{name}.json")
    return 0 if all(step["status"] == "passed" for step in results["steps"].values()) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together")
    parser.add_argument("--videos", type=Path, help="folder of class folders; default: made up")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, without figures")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # how a step is started
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--end-s", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _slug(name: str) -> str:
    """A GPU's name as a file's: "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def run_steps(options: argparse.Namespace, work: Path, out: Path) -> dict[str, Any]:
    """Runs the steps one by one and writes `out` after each.

    A step gets the time that is left, minus the shares of the steps after it.
    """
    began_s = time.time()
    end_s = began_s + 60 * options.minutes
    results: dict[str, Any] = {
        "dry_run": options.dry_run,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began_s)),
        "minutes": options.minutes,
        "steps": {},
    }
    reserved = sum(step.share for step in STEPS.values())
    for name, step in STEPS.items():
        reserved -= step.share
        step_end_s = end_s - 60 * options.minutes * reserved
        print(f"{name:14s}", end=" ", flush=True)
        found = _run_step(name, options, work, step_end_s)
        results["steps"][name] = found
        publish_bytes(out, (json.dumps(results, indent=2) + "\n").encode())
        print(f"{found['status']} in {found['seconds']} s", flush=True)
        if found["status"] != "passed":
            print(f"  {_first_line(found)}", flush=True)
    print(f"written to {out}")
    return results


def _run_step(name: str, options: argparse.Namespace, work: Path, end_s: float) -> dict[str, Any]:
    """{"status": "passed", "failed" or "left out", "seconds", "error" if any, "found"}."""
    out = work / f"{name}.json"
    began_s = time.time()
    if end_s - began_s < _LEAST_S:
        return {"status": "left out", "seconds": 0.0, "error": "no time is left"}
    command = [sys.executable, "-m", "bench.gpu_check", "--step", name]
    command += ["--work", str(work), "--out", str(out), "--end-s", str(end_s)]
    if options.videos is not None:
        command += ["--videos", str(options.videos.resolve())]
    if options.dry_run:
        command.append("--dry-run")
    error = ""
    try:
        # A step that watches the time itself ends a little late.
        limit_s = end_s - began_s + 15
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False
        )
        if done.returncode:
            error = f"exit code {done.returncode}: {done.stderr[-4000:]}"
    except subprocess.TimeoutExpired:
        error = f"stopped after {limit_s:.0f} s"
    found = json.loads(out.read_text()) if out.exists() else {}
    passed = found.pop("passed", True) and not error
    return {
        "status": "passed" if passed else "failed",
        "seconds": round(time.time() - began_s, 1),
        **({"error": error} if error else {}),
        "found": found,
    }


def _first_line(found: dict[str, Any]) -> str:
    """The line of a failure that is printed."""
    lines = str(found.get("error") or found.get("found")).strip().splitlines()
    return lines[-1][:200] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
