"""`Packets`: where a video's frames lie; `ByteRange`: where some GOPs lie; `Window`: their bytes.

`packet_index` keeps packets in files, with Arrow. The workers of an ingestion use packets without a
file, and importing Arrow takes time and 35 MB in each of them. So nothing here imports it.
"""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

# The codecs that `tb shard` encodes, so the only ones whose packets are kept.
INDEXED_CODECS = ["h264", "hevc", "vp9", "mjpeg"]


class PacketsError(ValueError):
    """A packet index cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Packets:
    """Where the frames of one stored video lie; F frames in G groups of pictures.

    Attributes:
        first_byte: Bytes from the video's first byte to its first packet.
        sizes: (F,) integers, bytes of each frame's packet.
        gop_frames: (G,) integers, the number of each GOP's first frame.
        checksums: (G,) integers, the CRC-32 of each GOP's bytes.
        extradata: The decoder's configuration, as FFmpeg takes it.
    """

    first_byte: int
    sizes: np.ndarray
    gop_frames: np.ndarray
    checksums: np.ndarray
    extradata: bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packets) and self.sha256() == other.sha256()

    def __hash__(self) -> int:
        return hash(self.sha256())

    def sha256(self) -> str:
        """The hex SHA-256 of the content; the width of the stored integers does not matter."""
        numbers = [np.array([self.first_byte, len(self.sizes), len(self.gop_frames)])]
        numbers += [self.sizes, self.gop_frames, self.checksums]
        hasher = hashlib.sha256(np.concatenate(numbers).astype("<i8").tobytes())
        hasher.update(self.extradata)
        return hasher.hexdigest()

    def byte_range(self, first: int, last: int) -> "ByteRange":
        """The GOPs that hold frames `first` to `last`, both included."""
        # NumPy's search would release the interpreter, and then wait for it.
        begin = bisect_right(self.gop_frames, first)
        gops = slice(begin - 1, bisect_right(self.gop_frames, last, begin))
        is_last = gops.stop == len(self.gop_frames)
        end_frame = len(self.sizes) if is_last else int(self.gop_frames[gops.stop])
        frames = slice(int(self.gop_frames[gops.start]), end_frame)
        return ByteRange(
            begin=self.first_byte + int(self.sizes[: frames.start].sum(dtype=np.int64)),
            offsets=(0, *np.cumsum(self.sizes[frames], dtype=np.int64).tolist()),
            first_gop=gops.start,
            gop_frames=tuple(self.gop_frames[gops].tolist()),
            checksums=tuple(self.checksums[gops].tolist()),
            extradata=self.extradata,
        )

    def checked_byte_range(
        self, first: int, last: int, *, num_frames: int, num_bytes: int, sha256: str
    ) -> "ByteRange":
        """As `byte_range`, after a check that these packets belong to the video.

        Args:
            first: Number of the first frame.
            last: Number of the last frame.
            num_frames: How many frames the video has.
            num_bytes: The size of the video.
            sha256: What `sha256` gave for the packets of this video when they were written.

        Raises:
            PacketsError: They do not fit the video, or they have another digest.
        """
        self.check(num_frames, num_bytes)
        if self.sha256() != sha256:
            raise PacketsError("is not the one that was written")
        return self.byte_range(first, last)

    def check(self, num_frames: int, num_bytes: int) -> None:
        """Checks that these packets can belong to a video of that many frames and bytes.

        A file may come from a stranger, and nothing outside the video may be read.

        Raises:
            PacketsError: They cannot belong to it.
        """
        starts, sizes = self.gop_frames, self.sizes
        if len(sizes) != num_frames or len(starts) != len(self.checksums) or not len(starts):
            raise PacketsError(f"has {len(sizes)} frames in {len(starts)} GOPs")
        if starts[0] != 0 or (np.diff(starts) < 1).any() or starts[-1] >= num_frames:
            raise PacketsError("has GOPs that are not in order")
        # Each number is checked alone first, because a sum of 64-bit numbers may wrap around.
        is_inside = (
            0 <= self.first_byte <= num_bytes and 1 <= sizes.min() <= sizes.max() <= num_bytes
        )
        if not is_inside or self.first_byte + sum(sizes.tolist()) > num_bytes:
            raise PacketsError("reaches beyond the video")


@dataclass(frozen=True, kw_only=True)
class ByteRange:
    """Whole GOPs of one video, which are one run of bytes: where they lie, and what they hold.

    Attributes:
        begin: Bytes from the video's first byte to the first packet of these GOPs.
        offsets: F + 1 numbers: bytes from `begin` to the packet of each frame, and to their end.
        first_gop: The number of the first of these GOPs.
        gop_frames: The number of each GOP's first frame, ascending.
        checksums: The CRC-32 of each GOP's bytes.
        extradata: The decoder's configuration.
    """

    begin: int
    offsets: tuple[int, ...]
    first_gop: int
    gop_frames: tuple[int, ...]
    checksums: tuple[int, ...]
    extradata: bytes


@dataclass(frozen=True, kw_only=True)
class Window:
    """Whole GOPs of one video, still encoded: the bytes that the frames of a window need.

    Attributes:
        codec: FFmpeg's name.
        size: (height, width) in pixels.
        byte_range: Where the GOPs lie in the video and in `data`.
        data: The packets of all these GOPs, one after the other.
    """

    codec: str
    size: tuple[int, int]
    byte_range: ByteRange
    data: bytes
