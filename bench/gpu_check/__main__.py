"""Checks and measures on a GPU what cannot be run without one, in minutes.

    python -m bench.gpu_check [--out gpu-check] [--minutes 8 | 25] [--steps NAME ...]
        [--videos FOLDER] [--dry-run]
    python -m bench.gpu_check report [--out gpu-check] [--page FILE.md] [--json FILE.json]

The steps, in this order: what the GPU and its libraries can do; videos stored with every recipe;
one video through the graph, operator by operator; decoding alone; loaders and their peers; the
training step; parity with the oracles; the tests that need a GPU.

It needs no network, no virtual environment and no data. Every figure is written to
OUT/steps/STEP.json as soon as it is known. Each step runs in a separate process. If a cell ends
that process, a new process goes on after that cell. If the check itself is killed, the same command
goes on. It ends within the given minutes: cells without time are left out, and the same command
measures them later.

After every step, the check writes two files named after the GPU: OUT/GPU.json has all figures, and
OUT/GPU.md is a page for people. `report` writes both again. `--dry-run` runs every step on the CPU,
with the CPU's variant of the graph. It shows that the steps run, and its figures mean nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.gpu_check.report import write_report
from bench.gpu_check.runner import CheckOptions, run_steps
from bench.gpu_check.timetable import STEPS, Duration, with_needed
from shards.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0 if every step passed, 2 if it could not begin."""
    options = _parse(arguments)
    try:
        if options.command == "report":
            for path in write_report(options.out, page=options.page, data=options.json):
                print(f"written to {path}")
            return 0
        chosen = CheckOptions(
            out=options.out.resolve(),
            videos=options.videos and options.videos.resolve(),
            duration=Duration(options.minutes),
            steps=with_needed(options.steps or STEPS),
            is_dry=options.dry_run,
        )
        return 0 if run_steps(chosen) else 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_check", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("command", nargs="?", choices=("run", "report"), default="run")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of the check")
    parser.add_argument(
        "--minutes",
        type=int,
        choices=[each.value for each in Duration],
        default=Duration.SHORT.value,
    )
    parser.add_argument(
        "--steps", nargs="+", choices=STEPS, help="default: all; with those that they need"
    )
    parser.add_argument("--videos", type=Path, help="folder of class folders; default: made up")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, without figures")
    parser.add_argument("--page", type=Path, help="report: the page's file; default: in OUT")
    parser.add_argument("--json", type=Path, help="report: the figures' file; default: in OUT")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
