"""Files appear whole or not at all.

A file is written under an unfinished name and then renamed. Every writer has its own unfinished
name, so two writers of one file never mix their bytes, even if the file system has no locks.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

UNFINISHED = ".unfinished"
"""How unfinished names end."""
_UNFINISHED_NAME = re.compile(rf".+\.[0-9a-f]{{16}}{re.escape(UNFINISHED)}")
# A writer that is alive writes more often than this, even over a slow network.
_ABANDONED_S = 3600


def publish_bytes(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Writes data to path; a crash at any moment leaves the old file or the new one.

    Args:
        path: The final name.
        data: The whole content.
        scratch: The folder for the unfinished file, on the same file system; by default the
            folder of `path`. The caller must remove what killed writers leave in `scratch`.
    """
    with unfinished_file(path, scratch) as unfinished:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish_file(unfinished, path)


def publish_file(unfinished: Path, path: Path) -> None:
    """Renames a finished, synced file to its final name and syncs the folder too."""
    os.replace(unfinished, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def unfinished_file(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yields a new, empty file for the content of `path`; it is removed unless it was renamed.

    A killed writer leaves its file. Without `scratch`, unfinished files in the folder of `path` are
    removed if no process has written to them for an hour.

    Args:
        path: The final name.
        scratch: The folder for the unfinished file; by default the folder of `path`.
    """
    unfinished = (scratch or path.parent) / unfinished_name(path.name)
    unfinished.touch(exist_ok=False)
    try:
        if scratch is None:
            _remove_abandoned(unfinished)
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(name: str) -> str:
    """A name for the unfinished file `name`; each call gives another one."""
    return f"{name}.{token_hex(8)}{UNFINISHED}"


def is_unfinished(name: str) -> bool:
    """Whether this is a name that `unfinished_name` may give."""
    return _UNFINISHED_NAME.fullmatch(name) is not None


def _remove_abandoned(newest: Path) -> None:
    """Removes unfinished files beside `newest`, which was written just now, if they are old."""
    # Both times come from the clock of the file system, which may be another machine's.
    now_s = newest.stat().st_mtime
    for path in newest.parent.glob(f"*{UNFINISHED}"):
        with suppress(OSError):  # another writer may have removed it, or it belongs to another user
            if is_unfinished(path.name) and now_s - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
