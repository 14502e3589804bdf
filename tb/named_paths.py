"""Writes files and folders that the user named; InputError where a path cannot be written."""

import os
from collections.abc import Callable
from errno import EISDIR, ENAMETOOLONG
from functools import wraps
from inspect import signature
from pathlib import Path
from tempfile import TemporaryFile
from typing import ParamSpec, TypeVar

from shards.errors import InputError
from shards.files.addresses import check_local
from shards.files.machine_errors import is_full, is_refusal
from shards.files.publish import publish_bytes

P = ParamSpec("P")
R = TypeVar("R")


def disk_errors_named(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: a full disk, or an `out` that cannot be used, becomes an InputError.

    The message names the path. An error that names no file counts as an error of `out`; a write
    gives such errors. Other errors about files elsewhere stay as they are.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            out = signature(function).bind(*args, **kwargs).arguments["out"]
            path = str(error.filename or out)
            is_of_out = Path(path).absolute().is_relative_to(Path(out).absolute())
            if is_full(error):
                raise InputError(
                    f"{out if is_of_out else path}: {error.strerror}; free some space, then run the"
                    " same command again, which goes on from what is there"
                ) from error
            if is_refusal(error) and is_of_out:
                raise InputError(
                    f"{path}: {error.strerror}; make {out} readable and writable, or use a copy of"
                    " it"
                ) from error
            if error.errno == ENAMETOOLONG and is_of_out:
                raise _refused(Path(path), error, "out") from error
            raise

    return call


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
    """Makes a folder and the folders above it, where they are missing.

    Args:
        path: The folder.
        argument: The argument that named the folder or one above it, e.g. "out".

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
