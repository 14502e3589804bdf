"""`Video`: one stored video, which is one row of the manifest.

The fields of the dataclass are the columns of manifest.parquet. The Arrow schema (`video_table`) is
derived from them, so a column is spelled in one place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from fractions import Fraction
from typing import Any, Self

# 8K. FFmpeg itself would accept eight times as many pixels, and keep a dozen pictures in memory.
MAX_HEIGHT_PX, MAX_WIDTH_PX = 4320, 8192
# Three days at 60 frames per second.
MAX_NUM_FRAMES = 2**24


class ColorMatrix(StrEnum):
    """How Y, U and V become RGB: ITU-R BT.601 or BT.709."""

    BT601 = "bt601"
    BT709 = "bt709"


class ColorRange(StrEnum):
    """Which numbers black and white have: 16 and 235, or 0 and 255."""

    LIMITED = "limited"
    FULL = "full"


# FFmpeg's pixel formats that mean the full range without a tag.
FULL_RANGE_FORMATS = frozenset({"yuvj411p", "yuvj420p", "yuvj422p", "yuvj440p", "yuvj444p"})


@dataclass(frozen=True, kw_only=True)
class Video:
    """One stored video.

    Attributes:
        key: The unique name of the video, see `shards.sources.keys`.
        label: The index of its class.
        splits: Its membership in split number 1, 2, ...: a SplitName for each.
        group: Videos of one group belong together, such as takes of one scene; "" if unknown.
        num_frames: How many frames it decodes to.
        fps_num: Frames per second, the numerator; `fps` gives the fraction.
        fps_den: Frames per second, the denominator.
        height: Pixels.
        width: Pixels.
        codec: FFmpeg's name, such as "h264".
        pixel_format: FFmpeg's name, such as "yuv420p"; "yuvj..." means full range.
        color_matrix: How Y, U and V become RGB.
        color_range: Which numbers black and white have.
        shard: The file name of its shard.
        offset: Bytes from the start of the shard to the first byte of the video.
        size: Bytes of the encoded video.
        sha256: The hex digest of these bytes.
        packets_sha256: The hex digest of its row in the packet index, see `Packets.sha256`; "" for
            a video without such a row, which is read and decoded as a whole file.
        source: The path of the original file, relative to the root of the data set.
        source_bytes: The size of the original file; -1 if it was unknown.
    """

    key: str
    label: int
    splits: tuple[str, ...]
    group: str
    num_frames: int
    fps_num: int
    fps_den: int
    height: int
    width: int
    codec: str
    pixel_format: str
    color_matrix: ColorMatrix
    color_range: ColorRange
    shard: str
    offset: int
    size: int
    sha256: str
    packets_sha256: str
    source: str
    source_bytes: int

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.fps_num, self.fps_den)

    def to_row(self) -> dict[str, Any]:
        """Column -> value, for JSON and Arrow."""
        row = {name: getattr(self, name) for name in COLUMNS}
        return {**row, "splits": list(self.splits)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The video of a row that `to_row` wrote.

        Raises:
            KeyError, TypeError: A column is missing or unknown.
            ValueError: The colour matrix or range is unknown.
        """
        parsed = {
            "splits": tuple(row["splits"]),
            "color_matrix": ColorMatrix(row["color_matrix"]),
            "color_range": ColorRange(row["color_range"]),
        }
        return cls(**{**row, **parsed})


COLUMNS = tuple(field.name for field in fields(Video))
