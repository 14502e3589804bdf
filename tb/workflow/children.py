"""Processes of our own that end when we do, however we end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING

from tb.progress import PLAIN
from tb.training.preemption import EXIT_CODE

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized


@contextmanager
def child_pool(num_processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes; the calling script needs an `if __name__` guard.

    On a machine with several GPUs each process sees one of them, in turn.

    When its block is left by an exception (Ctrl-C is one, SIGTERM another), the children get
    SIGTERM and are waited for.
    """
    # Spawned, not forked: this process may hold threads (torch, PyAV, the loader's).
    context = get_context("spawn")
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=context,
        initializer=_start_child,
        initargs=(_gpus(), context.Value("i", 0)),
    )
    # SIGTERM leaves the block like Ctrl-C, so that the children are told, save and are waited for.
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE))
    try:
        yield pool
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, a name for each GPU."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _start_child(gpus: list[str], num_started: "Synchronized[int]") -> None:
    os.environ[PLAIN] = "1"
    with num_started.get_lock():
        index, num_started.value = num_started.value, num_started.value + 1
    if len(gpus) > 1:
        # Before CUDA looks: a process keeps the GPUs that it first saw.
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    # Ctrl-C reaches the whole group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
