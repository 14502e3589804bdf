"""What the pictures of a stored video are like: pixel format, colour matrix and colour range."""

from dataclasses import dataclass

from av.video import reformatter
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shards.encode.codecs import CODECS
from shards.format.video import FULL_RANGE_FORMATS, ColorMatrix, ColorRange


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """How to interpret the numbers of a picture; the fields are columns of `Video`."""

    pixel_format: str
    color_matrix: ColorMatrix
    color_range: ColorRange

    def text(self) -> str:
        """The three names, for messages."""
        return f"{self.pixel_format} {self.color_matrix} {self.color_range}"


def picture_format(stream: VideoStream, first: VideoFrame) -> PictureFormat:
    """The format of a stream whose first frame has been decoded.

    The headers of some files have no pixel format, so the decoder must have begun. A stream without
    tags is BT.601 and limited range, as FFmpeg's scaler assumes. A codec with only one matrix is
    decoded with it, whatever the tags say.
    """
    context = stream.codec_context
    codec = CODECS.get(context.name)
    pixel_format = context.pix_fmt or first.format.name
    has_bt709_tag = int(context.colorspace) == int(reformatter.Colorspace.ITU709)
    has_full_tag = int(context.color_range) == int(reformatter.ColorRange.JPEG)
    tagged = ColorMatrix.BT709 if has_bt709_tag else ColorMatrix.BT601
    is_full = has_full_tag or pixel_format in FULL_RANGE_FORMATS
    return PictureFormat(
        pixel_format=pixel_format,
        color_matrix=ColorMatrix((codec and codec.only_matrix) or tagged),
        color_range=ColorRange.FULL if is_full else ColorRange.LIMITED,
    )
