"""Errors of this machine (a full disk, too few open files), which are never a video's fault."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import InputError

_OPEN_FILES = "allow more open files (`ulimit -n`), or use fewer workers"
_ROOM = "free some space, or set TIMEBALANCE_CACHE to a folder on another disk"
_SHORTAGES = {
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.ENOMEM: "free some memory, or use fewer workers",
    errno.ENOSPC: _ROOM,
}
_REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS}
# Errors of this process alone. A full disk may be a server's, so it is not among them.
_OF_THE_PROCESS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class MachineError(InputError):
    """This machine lacks something: space on a disk, a permission, open files, memory."""


def machine_error(path: Path, error: OSError) -> MachineError:
    """The error that says what this machine lacks, with the path and what to do."""
    advice = _SHORTAGES.get(error.errno or 0, "set TIMEBALANCE_CACHE to a folder for copies")
    return MachineError(f"{path}: {error.strerror or error}; {advice}")


def process_error(name: str, error: BaseException | None) -> MachineError | None:
    """What this process lacks, if that caused a library's error; else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_PROCESS:
            return MachineError(f"{name}: {error.strerror or error}; {_SHORTAGES[error.errno]}")
        error = error.__cause__ or error.__context__
    return None


def is_shortage(error: OSError) -> bool:
    """Whether the machine lacks space, open files or memory."""
    return error.errno in _SHORTAGES


def is_full(error: OSError) -> bool:
    """Whether a disk is full, or a limit for files is reached."""
    return _SHORTAGES.get(error.errno or 0) == _ROOM


def is_refusal(error: OSError) -> bool:
    """Whether a permission is missing, or a disk is read-only."""
    return error.errno in _REFUSALS


@contextmanager
def shortages_named(path: Path) -> Iterator[None]:
    """Turns a shortage into a `MachineError` that names the path; other errors stay as they are."""
    try:
        yield
    except OSError as error:
        if is_shortage(error):
            raise machine_error(path, error) from error
        raise
