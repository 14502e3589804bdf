"""Ingestions of one test process share their workers: a new one would import FFmpeg again."""

import subprocess
from collections.abc import Generator

from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.ingestion.passes import Pass
from shards.ingestion.worker import Worker

_idle: "list[subprocess.Popen[bytes]]" = []


class KeptWorker(Worker):
    """A worker whose process serves the next one, unless it had to be stopped at its work."""

    _is_busy = False

    def encode(
        self, one_pass: Pass, recipe: Recipe, time_limit_s: float
    ) -> Generator[Encoded | TranscodeError, None, None]:
        self._is_busy = True  # it stays so if the caller leaves before the last answer
        yield from super().encode(one_pass, recipe, time_limit_s)
        self._is_busy = False

    def stop(self) -> None:
        if self._is_busy:
            super().stop()

    def close(self) -> None:
        if self._process is not None and not self._is_busy and self._process.poll() is None:
            _idle.append(self._process)
            self._process = None
        super().close()

    def _start(self) -> "subprocess.Popen[bytes]":
        return super()._start() if self._stopped or not _idle else _idle.pop()


def end_workers() -> None:
    """Ends the processes that wait for work."""
    while _idle:
        worker = KeptWorker()
        worker._process = _idle.pop()
        Worker.stop(worker)
        Worker.close(worker)
