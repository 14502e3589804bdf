"""Where shards are written: a local folder, or anything that fsspec opens (s3://, gs://, ...).

One design choice: a file in a store is always whole. `LocalStore` and `RemoteStore` say how.
Unfinished files lie in the store's `scratch` folder, which is always on this machine.
"""

from pathlib import Path
from typing import Protocol

from shards.files.addresses import local_path, remote_url, set_address
from shards.files.local_store import LocalStore
from shards.files.remote_store import RemoteStore
from shards.files.size_limit import MAX_FILE_BYTES


class Store(Protocol):
    """A folder of files; their names are relative, with forward slashes.

    Attributes:
        name: The path or URL, for messages.
        scratch: A local folder for unfinished files.
    """

    name: str
    scratch: Path

    @property
    def folder(self) -> Path | None:
        """The folder; None if it is not on this machine."""

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes | None:
        """The content; None if there is no such file.

        Raises:
            InputError: The file has more than `max_bytes` bytes (then none is read), or it cannot
                be read.
        """

    def size(self, name: str) -> int | None:
        """Bytes; None if there is no such file."""

    def names(self) -> list[str]:
        """The files directly in the folder, sorted."""

    def put_bytes(self, name: str, data: bytes) -> None:
        """Writes a file; it appears whole or not at all."""

    def put_file(self, unfinished: Path, name: str) -> None:
        """Moves a finished file from `scratch` to its name; it appears whole or not at all."""

    def remove(self, name: str) -> None:
        """Removes a file if it is there."""

    def clear(self) -> None:
        """Removes what unfinished runs left: the folder `SCRATCH_NAME`, here and in the store."""


def open_store(root: Path | str) -> Store:
    """The store for a path or a URL; nothing is created yet.

    Raises:
        InputError: No library for that kind of URL is installed.
    """
    return _store(root, local_path(root))


def open_set(name: Path | str) -> tuple[Store, str]:
    """The store of a set, and which of its states a name means; nothing is created yet.

    Args:
        name: A path or a URL. With @ and the beginning of a digest, it is an earlier state.

    Returns:
        The store, and the first 8 to 64 hex digits of the digest; "" for the newest state.

    Raises:
        InputError: No library for that kind of URL is installed.
    """
    address = set_address(name)
    return _store(address.root, address.path), address.digest


def _store(root: Path | str, path: Path | None) -> Store:
    return RemoteStore(str(remote_url(root))) if path is None else LocalStore(path)
