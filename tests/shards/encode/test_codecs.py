"""What every codec writes: closed groups of pictures that hardware decoders take."""

import io

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from shards.encode.encoded import Encoded
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from tests.make_videos import make_video, moving_pattern
from tests.shards.helpers import decoded_frames, decoded_rgb


@pytest.fixture(scope="module", params=["h264", "hevc", "vp9", "mjpeg"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    # The source has scene cuts and other keyframes, which must not affect the result.
    def paint(index: int) -> np.ndarray:
        return moving_pattern(50, 144, 160, seed=index // 7)(index)

    path = tmp_path_factory.mktemp("transcode") / "a.mp4"
    make_video(path, num_frames=50, height=144, width=160, paint=paint)
    return transcode(path, Recipe(codec=request.param))


def test_keyframes_lie_gop_apart_and_nowhere_else(encoded: Encoded) -> None:
    keyframes = [
        index for index, frame in enumerate(decoded_frames(encoded.data)) if frame.key_frame
    ]
    assert keyframes == list(range(0, 50, 1 if encoded.codec == "mjpeg" else 16))


def test_there_are_no_b_frames(encoded: Encoded) -> None:
    kinds = {frame.pict_type for frame in decoded_frames(encoded.data)}
    assert kinds <= {PictureType.I, PictureType.P}
    with av.open(io.BytesIO(encoded.data)) as container:
        times = [(p.pts, p.dts) for p in container.demux(video=0) if p.size]
    assert len(times) == encoded.num_frames
    assert all(pts == dts for pts, dts in times)


def test_the_stream_is_what_hardware_decoders_take(encoded: Encoded) -> None:
    full = encoded.codec == "mjpeg"
    with av.open(io.BytesIO(encoded.data)) as container:
        (stream,) = container.streams  # so no audio either
        assert isinstance(stream, av.VideoStream)
        assert stream.codec_context.codec.canonical_name == encoded.codec
        assert stream.codec_context.pix_fmt == ("yuvj420p" if full else "yuv420p")
        assert stream.average_rate == stream.base_rate == encoded.fps
        frames = list(container.decode(stream))
    times = [frame.pts * frame.time_base for frame in frames]
    assert times == [index / encoded.fps for index in range(encoded.num_frames)]
    # H.264 without a tag means limited range.
    assert all((frame.color_range == ColorRange.JPEG) == full for frame in frames)


def test_every_gop_decodes_by_itself(encoded: Encoded) -> None:
    whole = decoded_rgb(encoded.data)
    with av.open(io.BytesIO(encoded.data)) as container:
        stream = container.streams.video[0]
        for start in (16, 32, 48):
            container.seek(round(start / encoded.fps / stream.time_base), stream=stream)
            frame = next(container.decode(stream)).to_ndarray(format="rgb24")
            assert np.array_equal(frame, whole[start])
