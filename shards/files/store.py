"""Where shards are written: a local folder, or anything that fsspec opens (s3://, gs://, ...).

A file appears whole or not at all: locally and on remote file systems (sftp://, ...) by renaming,
elsewhere because object stores show an object only once all of it has arrived. Unfinished files
lie in a local `scratch` folder.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from shards.errors import InputError
from shards.files.publish import publish_bytes, publish_file

SCRATCH_NAME = ".ingest"
_LOCAL_SCHEME = "file"
_EXTRA_OF_SCHEME = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class Store(Protocol):
    """A folder of files; names are relative, with forward slashes.

    `name` is for messages. `scratch` is a local folder, from which put_file moves files.
    """

    name: str
    scratch: Path

    def read(self, name: str) -> bytes | None:
        """The content, None if there is no such file."""

    def size(self, name: str) -> int | None:
        """Bytes, None if there is no such file."""

    def names(self) -> list[str]:
        """The files in the folder itself, sorted."""

    def put_bytes(self, name: str, data: bytes) -> None:
        """Makes a file appear, whole."""

    def put_file(self, unfinished: Path, name: str) -> None:
        """Makes a finished file appear under its name; `unfinished` is gone afterwards."""

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    def clear(self) -> None:
        """Removes all that `SCRATCH_NAME` holds, here and there."""


def open_store(root: Path | str) -> Store:
    """The store for a path or a URL; nothing is made yet.

    Raises:
        InputError: no library for that kind of URL.
    """
    path = local_path(root)
    return RemoteStore(str(remote_url(root))) if path is None else LocalStore(path)


def local_path(root: Path | str) -> Path | None:
    """The folder on this machine that a path or a file:// URL means; None for other URLs."""
    url = remote_url(root)
    if url is None:
        return Path(root)
    scheme, _, path = url.partition("://")
    return Path(path) if scheme == _LOCAL_SCHEME else None


def remote_url(root: Path | str) -> str | None:
    """The URL that a path stands for, None if it is a path indeed."""
    # One slash will do: pathlib makes s3:/bucket of s3://bucket.
    match = re.match(r"(?P<scheme>[a-z][a-z0-9+.-]+):/{1,3}(?P<rest>.*)", str(root))
    if not match:
        return None
    rest = match["rest"] if match["scheme"] != _LOCAL_SCHEME else f"/{match['rest']}"
    return f"{match['scheme']}://{rest}".rstrip("/")


def cache_root() -> Path:
    """Where copies of remote files live: $TIMEBALANCE_CACHE or ~/.cache/timebalance."""
    if chosen := os.environ.get("TIMEBALANCE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "timebalance"


class LocalStore:
    """A folder on this machine, or one that is mounted."""

    def __init__(self, root: Path) -> None:
        self._root, self.name, self.scratch = root, str(root), root / SCRATCH_NAME

    def read(self, name: str) -> bytes | None:
        path = self._root / name
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; make it readable") from error

    def size(self, name: str) -> int | None:
        path = self._root / name
        return path.stat().st_size if path.is_file() else None

    def names(self) -> list[str]:
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if path.is_file())

    def put_bytes(self, name: str, data: bytes) -> None:
        publish_bytes(self._root / name, data, self.scratch)

    def put_file(self, unfinished: Path, name: str) -> None:
        publish_file(unfinished, self._root / name)

    def remove(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def clear(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)


class RemoteStore:
    """A folder behind a URL."""

    def __init__(self, url: str) -> None:
        self.name = url
        self.scratch = cache_root() / "unfinished" / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._files, self._root = _file_system(url)
        self._moves = _has_moves(self._files)

    def read(self, name: str) -> bytes | None:
        with _remote_trouble(self.name):
            try:
                return bytes(self._files.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def size(self, name: str) -> int | None:
        with _remote_trouble(self.name):
            try:
                return int(self._files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def names(self) -> list[str]:
        with _remote_trouble(self.name):
            try:
                entries = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(e["name"].rpartition("/")[2] for e in entries if e["type"] == "file")

    def put_bytes(self, name: str, data: bytes) -> None:
        with _remote_trouble(self.name), self._appearing(name) as path:
            self._files.pipe_file(path, data)

    def put_file(self, unfinished: Path, name: str) -> None:
        with _remote_trouble(self.name), self._appearing(name) as path:
            self._files.put_file(str(unfinished), path)
        unfinished.unlink()

    def get_file(self, name: str, target: Path) -> None:
        """Copies a file to this machine."""
        with _remote_trouble(f"{self.name}/{name}"):
            try:
                self._files.get_file(self._path(name), str(target))
            except FileNotFoundError as error:
                raise InputError(
                    f"{self.name}/{name}: no such file; make the shards anew"
                ) from error

    def remove(self, name: str) -> None:
        with _remote_trouble(self.name):
            if self._files.exists(self._path(name)):
                self._files.rm_file(self._path(name))

    def clear(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        with _remote_trouble(self.name):
            if self._files.exists(self._path(SCRATCH_NAME)):
                self._files.rm(self._path(SCRATCH_NAME), recursive=True)

    @contextmanager
    def _appearing(self, name: str) -> Iterator[str]:
        """Yields the path to write to so that the file appears whole."""
        path = self._path(name)
        if not self._moves:
            yield path
            return
        aside = f"{path}.unfinished"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        yield aside
        self.remove(name)  # not every backend moves onto a file that is there
        self._files.mv(aside, path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _has_moves(files: Any) -> bool:
    """Whether a file can be moved there; object stores only copy, and need no moves."""
    from fsspec import AbstractFileSystem

    return type(files).mv is not AbstractFileSystem.mv


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    # No listings cache: another process may write to the same folder.
    open_url: Callable[..., tuple[Any, str]] = fsspec.core.url_to_fs
    try:
        return open_url(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        extra = _EXTRA_OF_SCHEME.get(url.partition(":")[0])
        way = f"pip install 'timebalance[{extra}]'" if extra else "check the address"
        raise InputError(f"{url}: {error}; {way}") from error


@contextmanager
def _remote_trouble(name: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # Every fsspec backend raises the exceptions of a library of its own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{name}: {reason}; check the address, the credentials and the network"
        ) from error
