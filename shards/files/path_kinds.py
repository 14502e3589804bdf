"""Whether there is a file or a folder at a path that the user named.

`Path.is_file` raises an OSError where the user may not enter a folder above the file, and where a
name is too long. `os.path.isfile` says False there, so that a file would be called missing.
"""

from errno import EBADF, ELOOP, ENOENT, ENOTDIR
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from shards.errors import InputError

_NOTHING_THERE = {EBADF, ELOOP, ENOENT, ENOTDIR}


def is_file(path: Path) -> bool:
    """Whether there is a file; InputError where the system does not say."""
    return S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether there is a folder; InputError where the system does not say."""
    return S_ISDIR(_mode(path))


def exists(path: Path) -> bool:
    """Whether there is a file or a folder; InputError where the system does not say."""
    return _mode(path) != 0


def _mode(path: Path) -> int:
    """What the system says of a path; 0 if there is nothing."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return 0
        raise InputError(f"{path}: {error.strerror}; give a path that can be read") from error
    except ValueError:  # a null character, which no name has
        return 0
