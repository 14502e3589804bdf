"""Checks the folder for the shards, and explains errors of the disk."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import InputError
from shards.files.addresses import without_digest
from shards.files.machine_errors import is_refusal
from shards.sources.source import Dataset


def check_apart(dataset: Dataset, out: Path | str, folder: Path | None) -> None:
    """Raises InputError if `out` cannot be the folder.

    A file, an earlier state of a set, and a folder with the videos themselves or with Python code
    are refused. `folder` is what `out` means on this machine; None for a URL.
    """
    if digest := without_digest(out)[1]:
        raise InputError(
            f"{out}: with @{digest} at its end it is an earlier state, which never changes; leave"
            " that out"
        )
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{out}: is a file; --out takes a folder")
    if (folder / "__init__.py").exists():  # "shards" itself, in a clone of this project
        raise InputError(f"{out}: holds Python code; choose another --out")
    target = folder.resolve()
    if target == dataset.root.resolve() or any(
        target in source.path.absolute().parents for source in dataset.sources
    ):
        raise InputError(f"{out}: holds the videos themselves; choose another --out")


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
