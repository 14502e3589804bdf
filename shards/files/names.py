"""How the name of a file is written into JSON and Parquet."""

import os
from pathlib import Path


def relative_name(path: Path, root: Path) -> str:
    """The path relative to root, with forward slashes, as valid Unicode."""
    return valid_unicode(Path(os.path.relpath(path, root)).as_posix())


def valid_unicode(name: str) -> str:
    r"""A file name as text that JSON and Parquet can hold: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
