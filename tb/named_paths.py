"""Files and folders that the user named: a path that cannot be written becomes one line."""

import os
from errno import EISDIR
from pathlib import Path
from tempfile import TemporaryFile

from shards.errors import InputError
from shards.files.addresses import check_local
from shards.files.publish import publish_bytes


def write_named_file(path: Path, data: bytes, argument: str) -> None:
    """Makes `data` the content of a file.

    Args:
        path: The file.
        data: Its whole content.
        argument: The argument that named it, e.g. "png".

    Raises:
        InputError: The file cannot be written, for example because its folder is missing.
    """
    check_local(path, argument)
    try:
        _refuse_folder(path)  # before an unfinished file is left beside it
        publish_bytes(path, data)
    except OSError as error:
        raise _refused(path, error, argument) from error


def check_named_file(path: Path, argument: str) -> None:
    """Raises InputError where `write_named_file` would, before work that takes long."""
    check_local(path, argument)
    try:
        _refuse_folder(path)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _refused(path, error, argument) from error


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))


def make_named_folder(path: Path, argument: str) -> None:
    """Makes a folder and those above it, where they are missing.

    Args:
        path: The folder.
        argument: The argument that named it or one above it, e.g. "out".

    Raises:
        InputError: It cannot be made, for example because a file has that name.
    """
    check_local(path, argument)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error, argument) from error


def _refused(path: Path, error: OSError, argument: str) -> InputError:
    return InputError(f"{path}: {error.strerror}; choose another {argument} (--{argument})")
