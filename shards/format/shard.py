"""The byte layout of a shard: a plain USTAR tar of KEY.<extension> and KEY.json, and its index.

The bytes depend on the content alone: the order is fixed, and times and owners are zero. The stock
`webdataset` library and `tarfile` can read the result. We need neither, because the manifest has
the offset of each video. The index is for DALI. `packet_index` describes the packet index.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shards.files.publish import unfinished_name
from shards.files.store import Store
from shards.format.packet_index import packets_name, write_packets
from shards.format.packets import Packets
from shards.format.video import Video

# The names of all shards. `\d` would also take digits of other scripts.
SHARD_PATTERN = r"shard-[0-9]{1,12}\.tar"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a tar.

    Attributes:
        name: Its name.
        offset: Bytes from the start of the tar to its first byte.
        size: Bytes.
    """

    name: str
    offset: int
    size: int


def shard_name(index: int) -> str:
    """The file name of shard number `index` (0-based)."""
    return f"shard-{index:06d}.tar"


def is_shard_name(name: str) -> bool:
    """Whether a file of that name would be a shard."""
    return re.fullmatch(SHARD_PATTERN, name) is not None


def index_name(name: str) -> str:
    """The file name of a shard's index."""
    return name.removesuffix(".tar") + ".idx"


def shard_files(name: str) -> tuple[str, str, str]:
    """The file names of a shard, its index and its packet index."""
    return name, index_name(name), packets_name(name)


def is_shard_file(name: str) -> bool:
    """Whether a file of that name would be a shard, an index or a packet index."""
    shard = name.partition(".")[0] + ".tar"
    return is_shard_name(shard) and name in shard_files(shard)


def index_text(samples: Sequence[Sequence[Member]]) -> str:
    """The index that DALI's `fn.readers.webdataset` needs (format v1.2 of its `wds2idx`).

    Args:
        samples: The members of each sample.
    """
    lines = [f"v1.2 {len(samples)}"]
    for members in samples:
        parts = [f"{m.name.partition('.')[2]} {m.offset} {m.size} {m.name}" for m in members]
        lines.append(" ".join(parts))
    return "\n".join(lines) + "\n"


def key_json(video: Video, classes: tuple[str, ...]) -> bytes:
    """The content of KEY.json, for readers that know only the tar."""
    content = {
        "key": video.key,
        "label": video.label,
        "class": classes[video.label],
        "splits": video.splits,
        "group": video.group,
        "num_frames": video.num_frames,
        "fps": [video.fps_num, video.fps_den],
        "height": video.height,
        "width": video.width,
        "codec": video.codec,
        "source": video.source,
    }
    return json.dumps(content, separators=(",", ":")).encode()


class ShardWriter:
    """Writes one shard; it appears under its name at `publish`, whole or not at all.

    Attributes:
        name: The file name of the shard.
    """

    def __init__(self, store: Store, index: int, classes: tuple[str, ...], max_bytes: int) -> None:
        """Opens an unfinished file in the scratch folder of the store, which must exist.

        Args:
            store: Where the shard will be.
            index: The number of the shard (0-based).
            classes: The names of the classes.
            max_bytes: A shard with a video takes no other one that would make it larger than this.
        """
        self.name = shard_name(index)
        self._store, self._classes, self._max_bytes = store, classes, max_bytes
        self._unfinished = store.scratch / unfinished_name(self.name)
        self._file = self._unfinished.open("wb")
        self._samples: list[tuple[Member, Member]] = []
        self._packets: list[Packets | None] = []
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(
        self, video: Video, extension: str, data: bytes, packets: Packets | None
    ) -> Video | None:
        """Appends KEY.extension and KEY.json.

        Args:
            video: The row of the video, without its place.
            extension: The extension of the video's file, without a dot.
            data: The bytes of the video.
            packets: Where its frames lie, for the packet index.

        Returns:
            The row with its place in this shard; None if the shard has no room for the video.
        """
        json_text = key_json(video, self._classes)
        room = _member_bytes(len(data)) + _member_bytes(len(json_text))
        if self._samples and self._tar.offset + room > self._max_bytes:
            return None
        members = (
            self._add_member(f"{video.key}.{extension}", data),
            self._add_member(f"{video.key}.json", json_text),
        )
        self._samples.append(members)
        self._packets.append(packets)
        return replace(video, shard=self.name, offset=members[0].offset)

    def publish(self) -> tuple[int, str]:
        """Makes the shard appear under its name; returns its size in bytes and its SHA-256."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        num_bytes = self._file.tell()
        self._file.close()
        with self._unfinished.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        # The indices come first, so that a shard that is there always has them.
        self._store.put_bytes(index_name(self.name), index_text(self._samples).encode())
        write_packets(self._store, self.name, self._packets)
        self._store.put_file(self._unfinished, self.name)
        return num_bytes, sha256

    def close(self) -> None:
        """Removes what was written, unless it was published."""
        try:
            self._file.close()
        finally:  # closing writes what is left, and fails if the disk is full
            self._unfinished.unlink(missing_ok=True)

    def _add_member(self, name: str, data: bytes) -> Member:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        # A USTAR header is exactly one block, because keys are short enough for its name field.
        offset = int(self._tar.offset) + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(data))
        return Member(name=name, offset=offset, size=len(data))


def _member_bytes(num_bytes: int) -> int:
    """How many bytes a member of that size takes in a tar, with header and padding."""
    return tarfile.BLOCKSIZE * (1 + -(-num_bytes // tarfile.BLOCKSIZE))
