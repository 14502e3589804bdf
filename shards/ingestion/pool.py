"""Many videos at a time on this machine, with the results in order."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from shards.encode.recipe import Recipe
from shards.encode.transcode import Encoded, TranscodeError
from shards.ingestion.worker import Worker

_LOOK_AHEAD_PER_WORKER = 4


def encode_all(
    paths: Iterable[Path], recipe: Recipe, num_workers: int, time_limit_s: float
) -> Generator[Encoded | TranscodeError, None, None]:
    """Yields the result for each path, in order, encoding up to `num_workers` at a time.

    At most four videos for each worker are encoded ahead of the consumer, so memory stays bounded.

    Args:
        paths: The files.
        recipe: How to store them.
        num_workers: How many processes encode.
        time_limit_s: A video that takes longer gives a TranscodeError.

    Raises:
        InputError: A worker was killed twice while it encoded the same video.
    """
    workers = [Worker() for _ in range(num_workers)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)
    # These threads only wait for the answers of the workers.
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="encode")
    pending: deque[Future[Encoded | TranscodeError]] = deque()
    try:
        for path in paths:
            pending.append(pool.submit(_encode, idle, path, recipe, time_limit_s))
            if len(pending) >= _LOOK_AHEAD_PER_WORKER * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Workers end before their threads, which would wait for them if the consumer leaves early.
        for future in pending:
            future.cancel()
        for worker in workers:
            worker.stop()
        pool.shutdown()
        for worker in workers:
            worker.close()


def _encode(
    idle: "SimpleQueue[Worker]", path: Path, recipe: Recipe, time_limit_s: float
) -> Encoded | TranscodeError:
    worker = idle.get()
    try:
        return worker.encode(path, recipe, time_limit_s)
    finally:
        idle.put(worker)
