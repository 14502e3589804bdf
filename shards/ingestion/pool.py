"""Many files at a time on this machine, with the results in order."""

import pickle
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from tempfile import SpooledTemporaryFile
from threading import Lock

from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.ingestion.passes import Pass
from shards.ingestion.worker import Worker, open_workers

_LOOK_AHEAD_PER_WORKER = 4
_MAX_WAITING_BYTES = 16 << 20


def encode_all(
    passes: Iterable[Pass],
    recipe: Recipe,
    num_workers: int,
    time_limit_s: float,
    scratch: Path,
) -> Generator[Encoded | TranscodeError, None, None]:
    """Yields the result for each part of each pass, in order, with `num_workers` passes at a time.

    At most four files for each worker are encoded ahead of the consumer. The results of a file wait
    in memory, or on the disk if they have more than 16 MiB. So memory stays bounded.

    Args:
        passes: The files.
        recipe: How to store them.
        num_workers: How many processes encode.
        time_limit_s: A video that takes longer gives a TranscodeError.
        scratch: A folder for results that wait.

    Raises:
        InputError: A worker does not start, or was killed twice while it encoded the same file.
    """
    with open_workers(num_workers) as workers:
        idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in workers:
            idle.put(worker)
        # These threads only wait for the answers of the workers.
        pool = ThreadPoolExecutor(num_workers, thread_name_prefix="encode")
        pending: deque[tuple[Future[None], _Results]] = deque()
        try:
            for one_pass in passes:
                results = _Results(scratch)
                future = pool.submit(_encode, idle, one_pass, recipe, time_limit_s, results)
                pending.append((future, results))
                if len(pending) >= _LOOK_AHEAD_PER_WORKER * num_workers:
                    yield from _taken(pending)
            while pending:
                yield from _taken(pending)
        finally:
            # Workers end first, because their threads would wait for them if the consumer leaves
            # early.
            for future, _ in pending:
                future.cancel()
            for worker in workers:
                worker.stop()
            pool.shutdown()
            for _, results in pending:
                results.close()


def _taken(
    pending: "deque[tuple[Future[None], _Results]]",
) -> Iterator[Encoded | TranscodeError]:
    """Yields the results of the first file, each as soon as it is there."""
    future, results = pending[0]
    yield from results
    pending.popleft()
    results.close()
    future.result()  # raises what its thread has raised


def _encode(
    idle: "SimpleQueue[Worker]",
    one_pass: Pass,
    recipe: Recipe,
    time_limit_s: float,
    results: "_Results",
) -> None:
    worker = idle.get()
    try:
        for result in worker.encode(one_pass, recipe, time_limit_s):
            results.put(result)
    finally:
        results.end()
        idle.put(worker)


class _Results:
    """The results of a pass on their way from one thread to another one."""

    def __init__(self, scratch: Path) -> None:
        # It has no name on the disk, so nothing is left of it after a kill.
        self._file = SpooledTemporaryFile(_MAX_WAITING_BYTES, dir=str(scratch))  # noqa: SIM115
        self._lock = Lock()
        self._sizes: SimpleQueue[int] = SimpleQueue()
        self._end = 0

    def put(self, result: Encoded | TranscodeError) -> None:
        data = pickle.dumps(result)
        with self._lock:
            self._file.seek(self._end)
            self._file.write(data)
            self._end += len(data)
        self._sizes.put(len(data))

    def end(self) -> None:
        """Says that no result follows."""
        self._sizes.put(0)

    def __iter__(self) -> Iterator[Encoded | TranscodeError]:
        """Yields the results; waits for the next one until the end."""
        begin = 0
        while size := self._sizes.get():
            with self._lock:
                self._file.seek(begin)
                data = self._file.read(size)
            begin += size
            yield pickle.loads(data)

    def close(self) -> None:
        self._file.close()
