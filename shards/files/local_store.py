"""A folder of shards on this machine: files appear by renaming."""

import shutil
from pathlib import Path

from shards.errors import InputError
from shards.files.addresses import SCRATCH_NAME
from shards.files.publish import publish_bytes, publish_file
from shards.files.size_limit import MAX_FILE_BYTES, check_size


class LocalStore:
    """A `Store` in a folder on this machine, or in one that is mounted."""

    def __init__(self, root: Path) -> None:
        self.folder, self.name, self.scratch = root, str(root), root / SCRATCH_NAME

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes | None:
        """See `Store`."""
        path = self.folder / name
        try:
            if not path.is_file():
                return None
            check_size(str(path), path.stat().st_size, max_bytes)
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; make it readable") from error

    def size(self, name: str) -> int | None:
        """See `Store`."""
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def names(self) -> list[str]:
        """See `Store`."""
        try:
            return sorted(path.name for path in self.folder.iterdir() if path.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise InputError(f"{self.folder}: {error.strerror}; make it readable") from error

    def put_bytes(self, name: str, data: bytes) -> None:
        """See `Store`."""
        publish_bytes(self.folder / name, data, self.scratch)

    def put_file(self, unfinished: Path, name: str) -> None:
        """See `Store`."""
        publish_file(unfinished, self.folder / name)

    def remove(self, name: str) -> None:
        """See `Store`."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """See `Store`."""
        shutil.rmtree(self.scratch, ignore_errors=True)
