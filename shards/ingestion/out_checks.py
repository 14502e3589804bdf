"""Checks the folder for the shards, and explains errors of the disk."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import InputError
from shards.files.machine_errors import is_refusal
from shards.sources.source import Dataset


def check_apart(dataset: Dataset, folder: Path) -> None:
    """Raises InputError for a file, and for a folder with the videos themselves or Python code."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out takes a folder")
    if (folder / "__init__.py").exists():  # "shards" itself, in a clone of this project
        raise InputError(f"{folder}: holds Python code; choose another --out")
    target = folder.resolve()
    if target == dataset.root.resolve() or any(
        target in source.path.absolute().parents for source in dataset.sources
    ):
        raise InputError(f"{folder}: holds the videos themselves; choose another --out")


@contextmanager
def disk_errors(out: str) -> Iterator[None]:
    """Turns errors of the system while `out` is written into an InputError with advice."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # the system did not raise it
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space and run again; finished shards are kept"
        elif is_refusal(error):
            advice = "choose an --out that you may write to"
        else:
            advice = (
                "remove the cause and run again, or choose another --out; finished shards are kept"
            )
        raise InputError(f"{error.filename or out}: {error.strerror}; {advice}") from error
