"""One writer per folder."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import InputError

_RETRY_S = 0.1


class BusyError(InputError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, complaint: str, *, patience_s: float = 0.0) -> Iterator[None]:
    """Holds an exclusive lock on a file; the system drops it when the process ends, however.

    Args:
        path: The lock file, made if missing and left in place; its folder exists.
        complaint: The message of the error, where another process holds the lock.
        patience_s: How long to wait for that process, in seconds.

    Raises:
        BusyError: Another process holds it.
    """
    with path.open("w") as file:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BusyError(complaint) from None
                time.sleep(_RETRY_S)
            except OSError:
                break  # Some network file systems have no locks; then the user is trusted.
        yield
