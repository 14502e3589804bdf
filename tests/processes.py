"""The end of processes that a test has not started itself, as /proc shows it."""

import time
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
    """The loader process of a running command; None where it has none now."""
    for path in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        command = Path(f"/proc/{path}/cmdline").read_bytes()
        if b"loaders.loader_process.child" in command:
            return int(path)
    return None
