"""What the pictures of a stored video are like: pixel format, color matrix and color range."""

from dataclasses import dataclass, replace
from typing import Self

from av.video import reformatter
from av.video.stream import VideoStream

from shards.format.video import ColorMatrix, ColorRange


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """How the numbers of a picture are meant; the values are those of the columns of `Video`."""

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
    is "" if only the frames say it.
    """
    context = stream.codec_context
    pixel_format = context.pix_fmt or ""
    # JPEG is BT.601 by definition and is decoded as such, whatever the container says.
    has_bt709_tag = int(context.colorspace) == int(reformatter.Colorspace.ITU709)
    has_full_tag = int(context.color_range) == int(reformatter.ColorRange.JPEG)
    is_bt709 = has_bt709_tag and context.name != "mjpeg"
    is_full = has_full_tag or pixel_format.startswith("yuvj")
    return PictureFormat(
        pixel_format=pixel_format,
        color_matrix=ColorMatrix.BT709 if is_bt709 else ColorMatrix.BT601,
        color_range=ColorRange.FULL if is_full else ColorRange.LIMITED,
    )
