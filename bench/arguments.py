"""What the commands of `bench` share: types of arguments, reports, the exit after a wrong input."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from shards.errors import InputError
from shards.files.publish import publish_bytes


def count(text: str) -> int:
    """A number of things, at least 1; a type for `argparse`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, at least 1")
    return number


def duration_s(text: str) -> float:
    """A number of seconds, more than 0; a type for `argparse`."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds, more than 0")
    return seconds


def new_file(text: str) -> Path:
    """A file that can be written, checked before a measurement could be lost; for `argparse`."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        reason = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise argparse.ArgumentTypeError(f"{path}: {reason}; give a file in a folder that exists")
    return path


def write_report(path: Path | None, report: object) -> None:
    """Writes the figures of a bench as JSON, whole; without a path it does nothing."""
    if path is not None:
        publish_bytes(path, (json.dumps(report, indent=1) + "\n").encode())


def run_command(main: Callable[[], object]) -> None:
    """Runs a command; after a wrong input it prints one line on stderr and exits with 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
