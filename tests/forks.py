"""Processes that start with the libraries imported, because importing torch takes seconds.

`FORKS` forks them from a server that has imported everything. A Python process has only one such
server, and its last list of imports counts. So no other module sets a list.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "torchvision",
        "torch.utils.tensorboard",
        "shards.ingestion.ingest",
        "tb.tables.grid",
        "tb.workflow.run",
    ]
)

OUTPUTS = {"stdout": 1, "stderr": 2}  # their descriptors


def write_outputs(folder: Path) -> None:
    """From now on, this process writes "stdout" and "stderr" into the folder."""
    for name, descriptor in OUTPUTS.items():
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), descriptor)


@contextmanager
def running(act: Callable[..., None], *arguments: object) -> Iterator[BaseProcess]:
    """A call in another process; killed with -9 at the end of the block if it still runs."""
    process = FORKS.Process(target=act, args=arguments)
    process.start()
    assert process.pid is not None
    try:
        yield process
    finally:
        process.kill()
        process.join()
