"""One writer at a time: a lock on a file, by `filelock`."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from shards.errors import InputError

logger = logging.getLogger(__name__)

_POLL_INTERVAL_S = 0.1
_NO_LOCKS_HERE = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})


class BusyError(InputError):
    """Somebody else holds the lock."""


@contextmanager
def locked(path: Path, message: str, *, patience_s: float = 0.0) -> Iterator[None]:
    """Holds an exclusive lock on a file.

    The lock excludes other processes and other calls in this process. The system drops it when the
    process ends, even by kill -9. Some network file systems have no locks: there this function
    excludes no process and logs a warning.

    Args:
        path: The lock file; created if missing and left in place. Its folder must exist.
        message: The message of the error.
        patience_s: How many seconds to wait for the lock.

    Raises:
        BusyError: Somebody else still holds it.
    """
    # It is no soft lock: that is a marker file, which a killed process would leave behind.
    lock = FileLock(
        path,
        timeout=patience_s,
        poll_interval=_POLL_INTERVAL_S,
        fallback_to_soft=False,
        preserve_lock_file=True,
    )
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(message) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS_HERE:
            raise
        _warn(path.parent)
    try:
        yield
    finally:
        lock.release()


@cache
def _warn(folder: Path) -> None:
    """Warns once for each folder."""
    logger.warning(
        "%s: this file system has no locks: do not run two commands that write there at once;"
        " only copies of remote shards are safe",
        folder,
    )
