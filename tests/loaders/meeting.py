"""Work that waits until enough threads do it at the same time."""

from collections.abc import Callable
from threading import Barrier, Lock
from typing import Any


def meeting(work: Callable[..., Any], num_threads: int) -> Callable[..., Any]:
    """`work`, whose first `num_threads` calls wait for each other, and fail if one is missing."""
    together, lock, started = Barrier(num_threads, timeout=60), Lock(), []

    def waiting(*inputs: Any) -> Any:
        with lock:
            started.append(inputs)
            is_early = len(started) <= num_threads
        if is_early:
            together.wait()
        return work(*inputs)

    return waiting
