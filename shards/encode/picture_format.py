"""What the pictures of a stored video are like: pixel format, colour matrix and colour range."""

from dataclasses import dataclass, replace
from typing import Self

from av.video import reformatter
from av.video.stream import VideoStream

from shards.encode.codecs import CODECS
from shards.format.video import ColorMatrix, ColorRange


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """How to interpret the numbers of a picture; the fields are columns of `Video`."""

    pixel_format: str
    color_matrix: ColorMatrix
    color_range: ColorRange

    def text(self) -> str:
        """The three names, for messages."""
        return f"{self.pixel_format} {self.color_matrix} {self.color_range}"

    def or_pixel_format(self, name: str) -> Self:
        """The same, with this pixel format if the headers have none."""
        return self if self.pixel_format else replace(self, pixel_format=name)


def picture_format(stream: VideoStream) -> PictureFormat:
    """The format of a stream that has been opened, from its headers; decodes no frame.

    A stream without tags is BT.601 and limited range, as FFmpeg's scaler assumes. The pixel format
    is "" if the headers have none. If a codec has only one matrix, the tags do not matter.
    """
    context = stream.codec_context
    codec = CODECS.get(context.name)
    pixel_format = context.pix_fmt or ""
    has_bt709_tag = int(context.colorspace) == int(reformatter.Colorspace.ITU709)
    has_full_tag = int(context.color_range) == int(reformatter.ColorRange.JPEG)
    tagged = ColorMatrix.BT709 if has_bt709_tag else ColorMatrix.BT601
    is_full = has_full_tag or pixel_format.startswith("yuvj")
    return PictureFormat(
        pixel_format=pixel_format,
        color_matrix=ColorMatrix((codec and codec.only_matrix) or tagged),
        color_range=ColorRange.FULL if is_full else ColorRange.LIMITED,
    )
