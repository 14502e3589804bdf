"""The recorded picture format agrees with the frames that the decoder gives."""

from pathlib import Path

import av
import pytest
from av.video import format as video_format
from av.video import reformatter

from shards.encode.picture_format import PictureFormat
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.encode.video_stream import open_video
from shards.format.video import FULL_RANGE_FORMATS, ColorMatrix, ColorRange
from tests.make_videos import make_video, moving_pattern


def _tagged(
    path: Path, colorspace: reformatter.Colorspace, color_range: reformatter.ColorRange
) -> Path:
    paint = moving_pattern(4, 96, 128)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = int(colorspace), int(color_range)
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(paint(index), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def test_all_formats_that_ffmpeg_names_yuvj_have_the_full_range() -> None:
    assert {name for name in video_format.names if name.startswith("yuvj")} == FULL_RANGE_FORMATS


@pytest.mark.parametrize(
    "colorspace", [reformatter.Colorspace.ITU709, reformatter.Colorspace.ITU601]
)
@pytest.mark.parametrize("color_range", [reformatter.ColorRange.MPEG, reformatter.ColorRange.JPEG])
@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mjpeg", "copy"])
def test_the_record_agrees_with_the_frames(
    tmp_path: Path,
    colorspace: reformatter.Colorspace,
    color_range: reformatter.ColorRange,
    codec: str,
) -> None:
    path = _tagged(tmp_path / "a.mp4", colorspace, color_range)
    encoded = transcode(path, Recipe(codec=codec))
    with open_video(encoded.data) as (container, stream):
        frame = next(container.decode(stream))
    is_bt709 = int(frame.colorspace) == int(reformatter.Colorspace.ITU709)
    is_full = (
        frame.format.name.startswith("yuvj") or frame.color_range == reformatter.ColorRange.JPEG
    )
    assert encoded.pictures == PictureFormat(
        pixel_format=frame.format.name,
        color_matrix=ColorMatrix.BT709 if is_bt709 else ColorMatrix.BT601,
        color_range=ColorRange.FULL if is_full else ColorRange.LIMITED,
    )
    assert is_full == (
        codec == "mjpeg" or (codec == "copy" and color_range == reformatter.ColorRange.JPEG)
    )
    assert is_bt709 == (codec != "mjpeg" and colorspace == reformatter.Colorspace.ITU709)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_copies_keep_their_pixel_format(tmp_path: Path, pix_fmt: str) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=4, pix_fmt=pix_fmt)
    assert transcode(path, Recipe(codec="copy")).pictures.pixel_format == pix_fmt
    assert transcode(path, Recipe()).pictures.pixel_format == "yuv420p"
