"""One shard: a plain USTAR tar of KEY.<video extension> and KEY.json pairs.

The bytes depend on the content alone: fixed order, times and owners are zero. The stock
`webdataset` library and `tarfile` read the result; offsets let us read a video without either.
"""

import hashlib
import io
import os
import tarfile
from pathlib import Path

from shards.publish import publish_file


def shard_name(index: int) -> str:
    """The file name of shard number `index` (0-based)."""
    return f"shard-{index:06d}.tar"


def member_bytes(num_bytes: int) -> int:
    """The room a member of that size takes in a tar, header and padding included."""
    return tarfile.BLOCKSIZE * (1 + -(-num_bytes // tarfile.BLOCKSIZE))


class ShardWriter:
    """Writes one shard; it appears under its name at publish(), whole, or never."""

    def __init__(self, path: Path, scratch: Path) -> None:
        """Starts an unfinished file in `scratch`, a folder on the file system of `path`."""
        self._path = path
        self._unfinished = scratch / f"{path.name}.unfinished"
        self._file = self._unfinished.open("wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    @property
    def num_bytes(self) -> int:
        """Bytes written so far."""
        return int(self._tar.offset)

    def add(self, key: str, extension: str, video: bytes, facts: bytes) -> int:
        """Appends KEY.extension and KEY.json; returns the offset of the video's first byte."""
        offset = self._add_member(f"{key}.{extension}", video)
        self._add_member(f"{key}.json", facts)
        return offset

    def publish(self) -> tuple[int, str]:
        """Makes the shard appear under its name; returns its size in bytes and its SHA-256."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        num_bytes = self._file.tell()
        self._file.close()
        with self._unfinished.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        publish_file(self._unfinished, self._path)
        return num_bytes, sha256

    def close(self) -> None:
        """Drops what was written, unless it was published."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def _add_member(self, name: str, data: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        # A USTAR header is one block exactly as long as the name is short, which keys are.
        offset = int(self._tar.offset) + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(data))
        return offset
