"""Files appear whole or not at all."""

import os
from pathlib import Path


def publish_bytes(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Writes data to path; a crash at any moment leaves the old file or the new one.

    Args:
        path: The final name.
        data: The whole content.
        scratch: The folder for the unfinished file, on the same file system; by default the
            folder of `path`.
    """
    unfinished = (scratch or path.parent) / f"{path.name}.unfinished"
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
