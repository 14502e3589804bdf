"""Shows the progress of long work: a live bar on a terminal, elsewhere a line every few seconds."""

import os
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN = "TB_PLAIN_PROGRESS"
"""An environment variable. If it is set, a terminal gets lines too: the live bars of processes that
run side by side would overwrite each other."""

_LINE_EVERY_S = 5.0


class ProgressBar:
    """A context manager whose `update` shows how much is done; if `quiet`, it shows nothing."""

    def __init__(self, title: str, total: int, *, quiet: bool = False) -> None:
        self._title, self._total, self._quiet = title, total, quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._started_s = self._last_line_s = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and PLAIN not in os.environ and not self._quiet:
            self._bar = Progress(
                TextColumn("{task.description:<24}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._bar.add_task(self._title, total=self._total, note="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """Shows `done` of the total, with a short note beside it."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, note=note)
            return
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if done < self._total and now - self._last_line_s < _LINE_EVERY_S:
            return
        self._last_line_s = now
        left = ""
        if self._first < done < self._total:
            pace = (now - self._started_s) / (done - self._first)
            left = f"  {pace * (self._total - done):.0f} s left"
        line = f"{self._title:<24} {done}/{self._total}{left}  {note}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
