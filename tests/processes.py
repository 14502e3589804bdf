"""Processes that a test has not started itself, and the memory of loaders, as /proc shows them."""

import os
import time
from contextlib import suppress
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may stay as a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until_dead(*pids: int) -> None:
    """Returns once all of these have ended; pytest ends a test that waits for ever."""
    while any(map(is_alive, pids)):
        time.sleep(0.05)


def wait_until_idle(pid: int) -> None:
    """Returns once a process has used no processor time for a while."""
    used, before = _ticks(pid), -1
    while used != before:
        time.sleep(0.3)
        used, before = _ticks(pid), used


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def loader_process(parent: int) -> int | None:
    """The loader process of a command, which may be dead; None where there is none now."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # a process that has just ended
            arguments = path.read_bytes().split(b"\0")
            if b"loaders.loader_process.child" in arguments and b"%d" % parent in arguments[-3:-2]:
                return int(path.parent.name)
    return None


_RING = "/memfd:timebalance-loader"


def ring_files(pid: int | str = "self") -> dict[int, int]:
    """The open files of a process that hold a ring: a file's number -> its size in bytes."""
    rings = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this folder
            if os.readlink(path).startswith(_RING):
                found = path.stat()
                rings[found.st_ino] = found.st_size
    return rings


def is_in_ring(address: int) -> bool:
    """Whether memory of this process lies in a ring."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return _RING in line
    raise AssertionError("the address lies in no mapping")
