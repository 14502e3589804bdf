"""What encoding a video gives: `Encoded`, or `TranscodeError`."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from shards.encode.picture_format import PictureFormat
from shards.format.packets import Packets


class TranscodeError(Exception):
    """A video cannot be used: "file name: reason".

    Attributes:
        may_pass: Whether another try may succeed with the same file, because the cause was the
            permissions, a disk or a time limit.
        is_missing: Whether the machine that was to encode the video has no such file.
    """

    def __init__(self, message: str, *, may_pass: bool = False, is_missing: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        self.is_missing = is_missing


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A checked video: all of its frames decode.

    Attributes:
        data: The whole file.
        num_frames: How many frames it decodes to.
        fps: Frames per second.
        height: Pixels.
        width: Pixels.
        codec: FFmpeg's name.
        pictures: What its pixels mean.
        packets: Where its frames lie, proven; None if GOPs do not decode by themselves, and for a
            file that is kept as it is.
        extension: The extension of its file, without a dot.
    """

    data: bytes
    num_frames: int
    fps: Fraction
    height: int
    width: int
    codec: str
    pictures: PictureFormat
    packets: Packets | None = None
    extension: str = "mp4"

    @cached_property
    def sha256(self) -> str:
        """The hex digest of `data`."""
        return hashlib.sha256(self.data).hexdigest()
