"""Child processes that end when this process does, however it ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING

from shards.errors import InputError
from tb import log_output
from tb.progress import PLAIN
from tb.registry import import_modules, imported_modules
from tb.training.preemption import EXIT_CODE
from tb.training.world import world_from

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized


@contextmanager
def child_pool(num_processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of new processes; the calling script needs an `if __name__` guard.

    On a machine with several GPUs each process sees one of them, in turn. When an exception leaves
    the block (Ctrl-C and SIGTERM are exceptions here), the children get SIGTERM, and this process
    waits for them.

    Raises:
        InputError: This process is one of several that train together.
    """
    if world_from(os.environ).size > 1:
        raise InputError(
            "jobs (--jobs) starts its own processes: leave it out under torchrun or srun"
        )
    # They are spawned, not forked, because this process may hold threads (torch, PyAV, loader).
    context = get_context("spawn")
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=context,
        initializer=_start_child,
        initargs=(_gpus(), context.Value("i", 0), imported_modules()),
    )
    # SIGTERM leaves the block like Ctrl-C, so that the children can save before this process ends.
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
    """The names of the GPUs, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _start_child(
    gpus: list[str], num_started: "Synchronized[int]", modules: tuple[str, ...]
) -> None:
    os.environ[PLAIN] = "1"
    log_output.show()
    with num_started.get_lock():
        index, num_started.value = num_started.value, num_started.value + 1
    if len(gpus) > 1:
        # This comes before CUDA starts, because a process keeps the GPUs that it saw first.
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    import_modules(modules)  # they may start CUDA
    # Ctrl-C reaches the whole group of processes, but the parent ends its children itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
