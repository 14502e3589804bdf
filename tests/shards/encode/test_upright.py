"""Any file becomes upright frames at a constant rate; a plain one is left as it is."""

from pathlib import Path

import av
import numpy as np
import pytest

from shards.encode.probe import open_probed
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.encode.upright import open_upright
from shards.encode.video_stream import VideoFaultError
from tests.make_videos import make_video


def luma(frame: av.VideoFrame) -> np.ndarray:
    return frame.to_ndarray(format="gray")


def test_a_plain_video_gives_its_own_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=23, height=90, width=122)
    with av.open(str(path)) as container:
        expected = [luma(frame) for frame in container.decode(video=0)]
    with open_upright(path) as video:
        assert (video.size, video.fps, video.num_promised) == ((90, 122), 25, 23)
        found = [luma(frame) for frame in video.frames]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("rotation", "size"), [(90, (128, 96)), (180, (96, 128))])
def test_a_turned_video_is_upright(tmp_path: Path, rotation: int, size: tuple[int, int]) -> None:
    plain = make_video(tmp_path / "plain.mp4", num_frames=5)
    turned = make_video(tmp_path / "turned.mp4", num_frames=5, rotation=rotation)
    with open_upright(plain) as one, open_upright(turned) as other:
        assert other.size == size
        # A display rotation counts anticlockwise, as NumPy's does.
        for before, after in zip(one.frames, other.frames, strict=True):
            expected = np.rot90(luma(before).astype(int), rotation // 90)
            assert np.abs(luma(after) - expected).max() <= 2


def test_a_variable_rate_becomes_the_one_that_is_stored(tmp_path: Path) -> None:
    times = [index / 25 if index < 20 else 0.8 + (index - 20) / 5 for index in range(30)]
    path = make_video(tmp_path / "a.mp4", num_frames=30, times=times)
    with open_probed(path) as (_, _, probed):
        assert not probed.is_constant
    stored = transcode(path, Recipe())
    with open_upright(path) as video:
        assert video.fps == stored.fps
        assert sum(1 for _ in video.frames) == stored.num_frames
        assert abs(video.num_promised - stored.num_frames) <= 2


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"")
    with pytest.raises(VideoFaultError, match="the file is empty"), open_upright(path):
        pass
