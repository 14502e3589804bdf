"""A run's metrics.jsonl: one JSON object on a line, one line for each step."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from shards.files.publish import publish_bytes

METRICS = "metrics.jsonl"
MetricsRow = dict[str, float]
"""The values of one step, by name."""


def is_loss_term(name: str) -> bool:
    """Whether a metric is a term of the loss: L_I, L_sup, ..."""
    return name.startswith("L_")


def taken(rows: list[MetricsRow]) -> list[MetricsRow]:
    """The rows of the steps that were not left out, which are those with a loss."""
    return [row for row in rows if "loss" in row]


class MetricsLog:
    """Appends rows to a file.

    Opening it removes the rows from step `keep` on, because a resumed run repeats these steps.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(path) if row["step"] < keep]
        publish_bytes(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = open(path, "a")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, row: MetricsRow) -> None:
        """Appends a row, and hands it to the operating system at once."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Forces the rows to disk; call it before a checkpoint that relies on them."""
        os.fsync(self._file.fileno())


def read_metrics(path: Path) -> list[MetricsRow]:
    """The rows of a log, without a last line that a kill cut short; [] where there is no log."""
    if not path.exists():
        return []
    rows: list[MetricsRow] = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
