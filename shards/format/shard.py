"""One shard: a plain USTAR tar of KEY.<video extension> and KEY.json pairs, and its DALI index.

The bytes depend on the content alone: fixed order, times and owners are zero. The stock
`webdataset` library and `tarfile` read the result; offsets let us read a video without either.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

from shards.files.store import Store


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a tar: `offset` of its first byte and `size`, in bytes."""

    name: str
    offset: int
    size: int


def shard_name(index: int) -> str:
    """The file name of shard number `index` (0-based)."""
    return f"shard-{index:06d}.tar"


def is_shard_name(name: str) -> bool:
    """Whether a file of that name would be a shard."""
    return re.fullmatch(r"shard-\d+\.tar", name) is not None


def index_name(name: str) -> str:
    """The file name of a shard's index."""
    return name.removesuffix(".tar") + ".idx"


def index_text(samples: Sequence[Sequence[Member]]) -> str:
    """What DALI's `fn.readers.webdataset` wants to know of a shard (format v1.2 of its `wds2idx`).

    Args:
        samples: the members of each sample.
    """
    lines = [f"v1.2 {len(samples)}"]
    for members in samples:
        parts = [f"{m.name.partition('.')[2]} {m.offset} {m.size} {m.name}" for m in members]
        lines.append(" ".join(parts))
    return "\n".join(lines) + "\n"


def member_bytes(num_bytes: int) -> int:
    """The room a member of that size takes in a tar, header and padding included."""
    return tarfile.BLOCKSIZE * (1 + -(-num_bytes // tarfile.BLOCKSIZE))


class ShardWriter:
    """Writes one shard; it appears under its name at publish(), whole, or never."""

    def __init__(self, store: Store, name: str) -> None:
        """Starts an unfinished file in the store's scratch folder, which must exist."""
        self._store, self._name = store, name
        self._unfinished = store.scratch / f"{name}.unfinished"
        self._file = self._unfinished.open("wb")
        self._samples: list[tuple[Member, Member]] = []
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    @property
    def num_bytes(self) -> int:
        """Bytes written so far."""
        return int(self._tar.offset)

    def add(self, key: str, extension: str, video: bytes, facts: bytes) -> int:
        """Appends KEY.extension and KEY.json; returns the offset of the video's first byte."""
        members = (
            self._add_member(f"{key}.{extension}", video),
            self._add_member(f"{key}.json", facts),
        )
        self._samples.append(members)
        return members[0].offset

    def publish(self) -> tuple[int, str]:
        """Makes the shard appear under its name; returns its size in bytes and its SHA-256."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        num_bytes = self._file.tell()
        self._file.close()
        with self._unfinished.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        # The index first: whoever sees a shard may count on it.
        self._store.put_bytes(index_name(self._name), index_text(self._samples).encode())
        self._store.put_file(self._unfinished, self._name)
        return num_bytes, sha256

    def close(self) -> None:
        """Drops what was written, unless it was published."""
        try:
            self._file.close()
        finally:  # closing writes what is left, which a full disk refuses
            self._unfinished.unlink(missing_ok=True)

    def _add_member(self, name: str, data: bytes) -> Member:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        # A USTAR header is one block exactly as long as the name is short, which keys are.
        offset = int(self._tar.offset) + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(data))
        return Member(name=name, offset=offset, size=len(data))
