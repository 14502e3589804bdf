"""What the steps of a check find, written to disk as soon as it is known.

Every step has one file, OUT/steps/STEP.json. It is written whole before and after every cell. So a
step that is killed leaves all its figures and the name of the cell that was running.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.gpu_check.timetable import NO_TIME, Duration
from shards.errors import InputError
from shards.files.publish import publish_bytes

CellFigures = dict[str, Any]


@dataclass
class Findings:
    """One step's file.

    Attributes:
        path: The file.
        status: "new", "running", "passed", "failed" or "out of time".
        cell: The cell that is running, or that was when the step was killed; None between cells.
        minutes: The duration of the check in which the step ended; 0 if it has not ended.
        seconds: How long the step ran, in all its processes.
        error: Why the step ended outside a cell; empty if it did not.
        found: Cell -> its figures; "problem" says why there are none, "missing" which library.
    """

    path: Path
    status: str = "new"
    cell: str | None = None
    minutes: int = 0
    seconds: float = 0.0
    error: str = ""
    found: dict[str, CellFigures] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Findings":
        """What is in the file so far; no findings if there is no file.

        Raises:
            InputError: The file is not one of this program.
        """
        content = read_json(path) if path.is_file() else {}
        try:
            return cls(path=path, **content)
        except TypeError as error:
            raise InputError(
                f"{path}: not a file of this program; remove it to begin again"
            ) from error

    @property
    def content(self) -> CellFigures:
        """What is in the file."""
        return {name: value for name, value in vars(self).items() if name != "path"}

    def save(self) -> None:
        """Writes the file."""
        publish_bytes(self.path, (json.dumps(self.content, indent=1) + "\n").encode())

    @contextmanager
    def measuring(self, cell: str) -> Iterator[CellFigures]:
        """Yields the cell's figures, to be filled; an exception becomes a "problem"."""
        self.cell = cell
        self.save()
        figures: CellFigures = {}
        began_s = time.perf_counter()
        try:
            yield figures
        except ImportError as error:  # a peer that is not installed is no failure
            figures["missing"] = str(error)
        except Exception as error:
            figures["problem"] = f"{type(error).__name__}: {error}"[:1000]
        self.end_cell(cell, figures | {"seconds": round(time.perf_counter() - began_s, 2)})

    def end_cell(self, cell: str, figures: CellFigures) -> None:
        """Notes what a cell found."""
        self.found[cell] = figures
        self.cell = None
        self.save()

    def forget_problems(self) -> None:
        """Forgets the cells that have no figures, so that they run again."""
        self.found = {name: cell for name, cell in self.found.items() if is_good(cell)}

    def finish(self, error: str, duration: Duration) -> None:
        """Notes that the step is over."""
        problems = [one.get("problem", "") for one in self.found.values() if not is_good(one)]
        problems += [error] if error else []
        self.status = "failed" if any(text != NO_TIME for text in problems) else "out of time"
        self.status, self.error = self.status if problems else "passed", error
        self.cell, self.minutes = None, duration.value
        self.save()


def is_good(figures: CellFigures) -> bool:
    """Whether a cell was measured and passed, or its peer is not installed."""
    return "problem" not in figures and figures.get("passed", True)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file of this program.

    Raises:
        InputError: The file cannot be read, or is not one of this program.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); remove it to begin again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a file of this program; remove it to begin again")
    return content


def all_findings(out: Path) -> dict[str, Findings]:
    """Step -> its findings, by name and not in the order of the steps."""
    return {path.stem: Findings.read(path) for path in sorted((out / "steps").glob("*.json"))}
