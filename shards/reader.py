"""Encoded videos by row number, straight from the shards: one positional read, then its digest.

Safe to share between threads: positional reads keep no file position, and an evicted descriptor
is closed only once its last reader is done. Every read is checked against the manifest (about
1 ms per MB), so a damaged shard shows up by name and never as a strange picture; the copy of a
remote one is fetched again.
"""

import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from shards.errors import InputError
from shards.manifest import Manifest

_MAX_OPEN_SHARDS = 128


class ShardError(InputError):
    """A video could not be read as the manifest describes it; names the key and the shard."""


class ShardReader:
    """Reads videos of one manifest. Close it when done, or use it as a context manager."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._sha256 = manifest.table.column("sha256").to_pylist()
        self._open: OrderedDict[int, _Descriptor] = OrderedDict()
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, index: int) -> bytes:
        """The encoded bytes of the video in row `index`.

        Raises:
            ShardError: the shard is missing, too short or was changed.
            InputError: it is remote and cannot be fetched.
        """
        try:
            return self._read(index)
        except ShardError:
            if not self._manifest.url:
                raise
        # A damaged copy: once more, from where it came.
        self._fetch_anew(int(self._manifest.shard_index[index]))
        return self._read(index)

    def _read(self, index: int) -> bytes:
        manifest = self._manifest
        shard_index = int(manifest.shard_index[index])
        name = f"{manifest.keys[index]} in {manifest.root / manifest.shard_names[shard_index]}"
        size, offset = int(manifest.sizes[index]), int(manifest.offsets[index])
        try:
            data = self._descriptor(shard_index).read(size, offset)
        except OSError as error:
            raise ShardError(f"{name}: {error.strerror or error}") from error
        if len(data) < size:
            raise ShardError(f"{name}: the shard ends {size - len(data)} bytes too early")
        if hashlib.sha256(data).hexdigest() != self._sha256[index]:
            raise ShardError(f"{name}: the bytes are not those that were written (sha256 differs)")
        return data

    def _fetch_anew(self, shard_index: int) -> None:
        self._manifest.shard_path(self._manifest.shard_names[shard_index], anew=True)
        with self._lock:
            self._open.pop(shard_index, None)

    def close(self) -> None:
        """Closes the shards; a later read opens them again."""
        with self._lock:
            self._open.clear()

    def _descriptor(self, shard_index: int) -> "_Descriptor":
        with self._lock:
            descriptor = self._open.pop(shard_index, None)
        if descriptor is None:  # without the lock: fetching a remote shard takes long
            name = self._manifest.shard_names[shard_index]
            descriptor = _Descriptor(self._manifest.shard_path(name))
        with self._lock:
            self._open[shard_index] = descriptor
            while len(self._open) > _MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
        return descriptor


class _Descriptor:
    """An open file that closes when the last reference goes, be it the cache's or a reader's."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def read(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        chunks = []
        while size > 0 and (chunk := os.pread(self._fd, size, offset)):
            chunks.append(chunk)
            size -= len(chunk)
            offset += len(chunk)
        return b"".join(chunks)
