"""A folder of shards behind a URL, through fsspec: S3, Google Cloud Storage, SFTP and others.

Object stores show an object only when all of it has arrived. On remote file systems (sftp://, ...)
a file is written under another name and then moved.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.addresses import SCRATCH_NAME, cache_root
from shards.files.machine_errors import is_shortage, machine_error, process_error
from shards.files.publish import is_unfinished, unfinished_name
from shards.files.size_limit import MAX_FILE_BYTES, check_size

# Which extra of this package brings the library for a kind of URL.
_EXTRA_OF_SCHEME = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class OriginalError(InputError):
    """A remote file is gone, or has other bytes than were written. Another try does not help."""


class RemoteStore:
    """A `Store` behind a URL."""

    def __init__(self, url: str) -> None:
        self.name, self.folder = url, None
        self.scratch = cache_root() / "unfinished" / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._files, self._root = _file_system(url)
        self._moves = _has_moves(self._files)

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes | None:
        """See `Store`."""
        num_bytes = self.size(name)
        if num_bytes is None:
            return None
        check_size(f"{self.name}/{name}", num_bytes, max_bytes)
        # Servers refuse a range of no bytes.
        return self.read_range(name, 0, num_bytes) if num_bytes else b""

    def size(self, name: str) -> int | None:
        """See `Store`."""
        with _remote_errors(self.name):
            try:
                return int(self._files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def names(self) -> list[str]:
        """See `Store`."""
        with _remote_errors(self.name):
            try:
                entries = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(e["name"].rpartition("/")[2] for e in entries if e["type"] == "file")

    def put_bytes(self, name: str, data: bytes) -> None:
        """See `Store`."""
        with _remote_errors(self.name), self._appearing(name) as path:
            self._files.pipe_file(path, data)

    def put_file(self, unfinished: Path, name: str) -> None:
        """See `Store`."""
        with _remote_errors(self.name), self._appearing(name) as path:
            self._files.put_file(str(unfinished), path)
        unfinished.unlink()

    def get_file(self, name: str, target: Path, max_bytes: int) -> None:
        """Copies a file to this machine.

        Args:
            name: The file.
            target: A file that exists and may be overwritten.
            max_bytes: How large the file may be. Nothing is copied if the server says that it is
                larger, and the copy ends if the server sends more. Some file systems, such as
                sftp, do not tell how much has come; there the size is checked at the end.

        Raises:
            OriginalError: There is no such file, or it is larger.
            MachineError: The target's disk is full, or this machine lacks something else.
            InputError: The network or the server failed.
        """
        from fsspec import Callback

        advice = "run `tb shard` again with another --out"
        num_bytes = self.size(name)
        if num_bytes is None:
            raise OriginalError(f"{self.name}/{name}: no such file; {advice}")
        if num_bytes > max_bytes:
            raise OriginalError(
                f"{self.name}/{name}: has {num_bytes} bytes, and may have {max_bytes}; {advice}"
            )

        def check(_: int | None, num_copied: int) -> None:
            if num_copied > max_bytes:
                raise OriginalError(
                    f"{self.name}/{name}: more than the {num_bytes} bytes arrived that the server"
                    f" had named; {advice}"
                )

        with _remote_errors(f"{self.name}/{name}"):
            try:
                progress = Callback(hooks={"limit": check})
                self._files.get_file(self._path(name), str(target), callback=progress)
                check(None, target.stat().st_size)
            except FileNotFoundError as error:  # it was removed just now
                raise OriginalError(f"{self.name}/{name}: no such file; {advice}") from error
            except OSError as error:
                if is_shortage(error):
                    raise machine_error(target.parent, error) from error
                raise

    def read_range(self, name: str, begin: int, num_bytes: int) -> bytes:
        """Some bytes of a file, in one request; fewer only at its end.

        Raises:
            OriginalError: The server sends more than was asked for.
            InputError: The network or the server failed.
        """
        with _remote_errors(f"{self.name}/{name}"):
            path, end = self._path(name), begin + num_bytes
            read = _http_range if "http" in self._files.protocol else _any_range
            data = read(self._files, path, begin, end)
        if len(data) > num_bytes:
            raise OriginalError(
                f"{self.name}/{name}: more than the {num_bytes} bytes arrived that were asked for,"
                " so the server ignores ranges; choose another server, or read with copies"
                " (cache=True)"
            )
        return data

    def remove(self, name: str) -> None:
        """See `Store`."""
        with _remote_errors(self.name):
            if self._files.exists(self._path(name)):
                self._files.rm_file(self._path(name))

    def clear(self) -> None:
        """See `Store`."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        with _remote_errors(self.name):
            if self._files.exists(self._path(SCRATCH_NAME)):
                self._files.rm(self._path(SCRATCH_NAME), recursive=True)
        if self._moves:
            for name in self.names():
                if is_unfinished(name):
                    self.remove(name)

    @contextmanager
    def _appearing(self, name: str) -> Iterator[str]:
        """Yields the path to write to; afterwards the file appears whole under its own name."""
        path = self._path(name)
        if not self._moves:
            yield path
            return
        aside = unfinished_name(path)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        yield aside
        self.remove(name)  # not every backend overwrites a file when it moves another one
        self._files.mv(aside, path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _any_range(files: Any, path: str, begin: int, end: int) -> bytes:
    return bytes(files.cat_file(path, start=begin, end=end))


def _http_range(files: Any, path: str, begin: int, end: int) -> bytes:
    """Like `_any_range`, for HTTP: `cat_file` takes all that a server sends, even without end."""
    headers = {**files.kwargs.get("headers", {}), "Range": f"bytes={begin}-{end - 1}"}
    parts, num_left = [], end - begin
    # A file without blocks is a stream. With a size, no request asks the server for it.
    with files.open(path, block_size=0, size=end - begin, headers=headers) as file:
        while part := file.read(num_left + 1):  # one byte more shows that there is more
            parts.append(part)
            num_left -= len(part)
    return b"".join(parts)


def _has_moves(files: Any) -> bool:
    """Whether this file system can move a file; object stores only copy, and need no move."""
    from fsspec import AbstractFileSystem

    return type(files).mv is not AbstractFileSystem.mv


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    # There is no listings cache, because another process may write to the same folder.
    open_url: Callable[..., tuple[Any, str]] = fsspec.core.url_to_fs
    try:
        return open_url(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        extra = _EXTRA_OF_SCHEME.get(url.partition(":")[0])
        way = f"pip install 'timebalance[{extra}]'" if extra else "check the address"
        raise InputError(f"{url}: {error}; {way}") from error


@contextmanager
def _remote_errors(name: str) -> Iterator[None]:
    """Turns every error of a backend into an InputError."""
    try:
        yield
    except InputError:
        raise
    # Each fsspec backend raises the exceptions of its own library.
    except Exception as error:
        if lacking := process_error(name, error):
            raise lacking from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{name}: {reason}; check the address, the credentials and the network"
        ) from error
