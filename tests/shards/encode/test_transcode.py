"""What is stored agrees with the recipe and shows the same pictures as the source."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.picture_format import PictureFormat
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.format import video
from tests.make_videos import make_video, moving_pattern
from tests.shards.helpers import decoded_frames, decoded_rgb
from tests.walk import walking


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one - other) ** 2)))


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mjpeg"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, codec: str) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=20, height=144, width=144)
    recipe = Recipe(codec=codec)
    assert transcode(path, recipe) == transcode(path, recipe)


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mjpeg"])
def test_the_default_quality_is_good_and_a_worse_one_smaller(tmp_path: Path, codec: str) -> None:
    paint = moving_pattern(12, 144, 144)
    path = make_video(
        tmp_path / "a.mkv", num_frames=12, height=144, width=144, paint=paint, codec="ffv1"
    )
    images = np.stack([paint(index) for index in range(12)])
    good, poor = (transcode(path, Recipe(codec=codec, quality=q)) for q in (None, 31))
    assert _psnr(decoded_rgb(good.data), images) > 30
    assert len(poor.data) < len(good.data)


def test_interlaced_pictures_are_deinterlaced(tmp_path: Path) -> None:
    """A bar that moves between the two fields of a frame shows combs unless it is deinterlaced."""

    def paint(index: int) -> np.ndarray:
        image = np.full((96, 128, 3), 60, np.uint8)
        for field in (0, 1):
            left = 8 + 6 * (2 * index + field)
            image[field::2, left : left + 24] = 220
        return image

    path = make_video(
        tmp_path / "a.mpg",
        num_frames=6,
        codec="mpeg2video",
        paint=paint,
        options={"flags": "+ildct+ilme", "top": "1", "b": "8M"},
    )
    stored = decoded_rgb(transcode(path, Recipe(quality=5)).data)
    assert len(stored) == 6

    def combing(images: np.ndarray) -> float:
        return float(np.abs(np.diff(images, axis=1)).mean())

    assert combing(stored) < combing(np.stack([paint(i) for i in range(6)]).astype(float)) / 3


def test_high_rates_are_kept_by_copies_and_halved_by_encoders(tmp_path: Path) -> None:
    """The brightness of a frame is its number."""

    def paint(index: int) -> np.ndarray:
        return np.full((96, 128, 3), 40 + 5 * index, np.uint8)

    path = make_video(tmp_path / "a.mp4", num_frames=30, fps=120, paint=paint)
    copied, stored = (transcode(path, Recipe(codec=codec)) for codec in ("copy", "h264"))
    assert (copied.fps, copied.num_frames) == (120, 30)
    assert stored.fps == 60
    assert abs(stored.num_frames - 15) <= 1
    shown = (decoded_rgb(stored.data).mean((1, 2, 3)) - 40) / 5
    assert np.allclose(np.diff(shown), 2, atol=0.5)


@settings(max_examples=12, deadline=None)
@given(st.integers(8, 180), st.integers(8, 180), st.integers(1, 5))
def test_any_size_and_length_decodes_in_full(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, num_frames: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.mkv"
    make_video(
        path, height=height, width=width, num_frames=num_frames, codec="ffv1", pix_fmt="yuv444p"
    )
    recipe = Recipe(short_side_px=96)
    try:
        encoded = transcode(path, recipe)
    except TranscodeError as error:
        assert "too elongated" in str(error)  # noqa: PT017 - either outcome is right, see below
        assert max(height, width) / min(height, width) > 20
        return
    assert encoded.height % 16 == encoded.width % 16 == 0
    assert 64 <= min(encoded.height, encoded.width) <= 96
    assert len(list(decoded_frames(encoded.data))) == encoded.num_frames == num_frames


def test_sizes_that_fit_keep_every_pixel_in_place(tmp_path: Path) -> None:
    paint = moving_pattern(8, 96, 128)
    path = make_video(tmp_path / "a.mp4", num_frames=8, paint=paint, options={"crf": "5"})
    stored = decoded_rgb(transcode(path, Recipe(quality=5)).data)
    assert _psnr(stored, np.stack([paint(index) for index in range(8)])) > 33


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_input_is_stored_upright(tmp_path: Path, rotation: int) -> None:
    paint = moving_pattern(4, 96, 128)
    path = make_video(
        tmp_path / "a.mp4", num_frames=4, paint=paint, rotation=rotation, options={"crf": "5"}
    )
    stored = decoded_rgb(transcode(path, Recipe(quality=5)).data)
    upright = np.stack([np.rot90(paint(index), rotation // 90) for index in range(4)])
    assert stored.shape == upright.shape
    assert _psnr(stored, upright) > 30


def test_a_variable_rate_becomes_constant_in_time(tmp_path: Path) -> None:
    """The brightness of a frame is its number: at time t the picture of that time is shown."""
    gaps = [1, 1, 3, 1, 5, 1, 1, 2, 4, 1] * 3
    times = [float(t) for t in np.cumsum([0, *gaps])[:-1] / 25]

    def paint(index: int) -> np.ndarray:
        return np.full((96, 128, 3), 40 + 5 * index, np.uint8)

    path = make_video(tmp_path / "a.mkv", num_frames=30, times=times, paint=paint)
    encoded = transcode(path, Recipe())
    shown = (decoded_rgb(encoded.data).mean((1, 2, 3)) - 40) / 5
    assert abs(encoded.num_frames / float(encoded.fps) - sum(gaps) / 25) < 0.3
    for index, value in enumerate(shown):
        # fps rounds to the nearest output time, so a picture may be half a frame early.
        moments = np.array([index - 0.5, index, index + 0.5]) / float(encoded.fps)
        due = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, 29)
        assert due.min() - 0.3 <= value <= due.max() + 0.3


def test_colour_tags_are_kept_and_full_range_becomes_limited(tmp_path: Path) -> None:
    paint = moving_pattern(4, 96, 128)
    path = make_video(
        tmp_path / "a.mp4",
        num_frames=4,
        paint=paint,
        pix_fmt="yuvj420p",
        options={"crf": "5", "colorspace": "bt470bg", "color_primaries": "bt470bg"},
    )
    encoded = transcode(path, Recipe(quality=5))
    frame = next(decoded_frames(encoded.data))
    assert frame.colorspace == Colorspace.ITU601
    assert frame.color_range != ColorRange.JPEG
    stored = decoded_rgb(encoded.data)
    assert _psnr(stored, np.stack([paint(index) for index in range(4)])) > 30


def test_mjpeg_shows_the_colours_of_any_source(tmp_path: Path) -> None:
    """A JPEG has no tag for its matrix, so it must be stored as BT.601, whatever the source has."""
    bars = np.zeros((96, 128, 3), np.uint8)
    for index, color in enumerate([(220, 30, 40), (30, 200, 60), (40, 60, 220), (210, 200, 30)]):
        bars[:, 32 * index : 32 * (index + 1)] = color
    path = make_video(
        tmp_path / "a.mkv", num_frames=3, codec="ffv1", pix_fmt="bgr0", paint=lambda _: bars
    )
    stored = decoded_rgb(transcode(path, Recipe(codec="mjpeg")).data)
    middles = stored[:, 48, 16::32]
    assert np.abs(middles - bars[48, 16::32]).max() < 6


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "extension"),
    [
        ("libx264", "yuv444p", "mp4"),
        ("libx264", "yuv420p10le", "mp4"),
        ("libvpx-vp9", "yuva420p", "webm"),
        ("mpeg4", "yuv420p", "avi"),
        ("mjpeg", "yuvj420p", "avi"),
        ("mpeg2video", "yuv422p", "mpg"),
        ("ffv1", "bgr0", "mkv"),
    ],
)
def test_every_pixel_format_shows_the_same_picture(
    tmp_path: Path, codec: str, pix_fmt: str, extension: str
) -> None:
    paint = moving_pattern(6, 96, 128)
    path = make_video(
        tmp_path / f"a.{extension}", num_frames=6, codec=codec, pix_fmt=pix_fmt, paint=paint
    )
    stored = decoded_rgb(transcode(path, Recipe(quality=5)).data)
    assert len(stored) == 6
    assert _psnr(stored, np.stack([paint(index) for index in range(6)])) > 25


def test_b_frames_in_avi_give_every_frame_once_and_in_order(tmp_path: Path) -> None:
    def paint(index: int) -> np.ndarray:
        return np.full((96, 128, 3), 40 + 5 * index, np.uint8)

    path = make_video(
        tmp_path / "a.avi",
        num_frames=30,
        codec="mpeg4",
        paint=paint,
        options={"bf": "2", "b": "8M"},
    )
    stored = decoded_rgb(transcode(path, Recipe()).data).mean((1, 2, 3))
    assert np.allclose((stored - 40) / 5, range(30), atol=0.6)


def test_long_videos_are_cut(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=60, fps=20)
    assert transcode(path, Recipe(max_seconds=1.5)).num_frames == 30
    assert transcode(path, Recipe(max_seconds=100)).num_frames == 60
    assert transcode(path, Recipe(max_seconds=0.001)).num_frames == 1


def test_copy_keeps_the_file_as_it_is(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.AVI", num_frames=13, codec="mpeg4", height=50, width=70)
    encoded = transcode(path, Recipe(codec="copy"))
    expected = Encoded(
        data=path.read_bytes(),
        num_frames=13,
        fps=Fraction(25),
        height=50,
        width=70,
        codec="mpeg4",
        pictures=PictureFormat(
            pixel_format="yuv420p",
            color_matrix=video.ColorMatrix.BT601,
            color_range=video.ColorRange.LIMITED,
        ),
        extension="avi",
    )
    assert encoded == expected


def test_a_picture_that_changes_size_is_refused(tmp_path: Path) -> None:
    parts = [
        make_video(tmp_path / f"{height}.m2v", num_frames=6, codec="mpeg2video", height=height)
        for height in (96, 144)
    ]
    path = tmp_path / "a.m2v"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(TranscodeError, match="size"):
        transcode(path, Recipe())


def test_the_way_of_a_video_returns_to_no_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=20)
    recipe = Recipe()
    transcode(path, recipe)  # loads libavcodec
    with walking() as walk:
        transcode(path, recipe)
    assert walk.returns == []
    assert len(set(walk.entered)) == 17
