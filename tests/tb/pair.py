"""Two processes of one world, without a launcher."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import mkdtemp

from tests.forks import FORKS, write_outputs


@dataclass(frozen=True)
class Rank:
    """A process that runs, or has ended.

    Attributes:
        process: The process.
        folder: Where its "stdout" and "stderr" are.
    """

    process: BaseProcess
    folder: Path

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def finish(self) -> tuple[int, str, str]:
        """Its exit code, stdout and stderr, once it has ended."""
        self.process.join()
        assert self.process.exitcode is not None
        stdout, stderr = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        return self.process.exitcode, stdout, stderr


def start_pair(folder: Path, act: Callable[..., object], *arguments: object) -> list[Rank]:
    """Starts two processes that call `act` with the arguments; their outputs go below `folder`."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    pair = []
    for rank in range(2):
        environ = {**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        outputs = Path(mkdtemp(prefix=f"rank-{rank}-", dir=folder))
        process = FORKS.Process(target=_run, args=(environ, outputs, act, arguments))
        process.start()
        pair.append(Rank(process, outputs))
    return pair


def finish(pair: list[Rank]) -> list[tuple[int, str]]:
    """The exit code and stderr of each."""
    ends = [rank.finish() for rank in pair]
    return [(code, stderr) for code, _, stderr in ends]


def _run(
    environ: dict[str, str],
    folder: Path,
    act: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    os.environ.clear()
    os.environ.update(environ)
    write_outputs(folder)
    act(*arguments)
