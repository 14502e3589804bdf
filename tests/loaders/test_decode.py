"""Frame numbers are exact for any codec, container, B-frames and timestamps."""

import errno
import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.decode import check_file, count_frames, decoded_frames
from loaders.yuv import frame_color
from shards.decode.packet_decoder import DecodeError
from shards.decode.planes import frame_colors, frame_planes
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.files.machine_errors import MachineError
from tests.make_videos import make_two_streams, make_video
from tests.numbered import numbered_paint, read_number
from tests.shards.damage import bomb, growing_bomb, odd_metadata

NUM_FRAMES = 50
SIZE = HEIGHT, WIDTH = 96, 128
# Two frames are missing early, then the rate is steady: a number guessed from a time is off by two.
GAPPED = [(i if i < 5 else i + 2) / 25 for i in range(NUM_FRAMES)]
IRREGULAR = [i / 25 + (0.013 if i % 3 else 0) for i in range(NUM_FRAMES)]
REALTIME = {"deadline": "realtime", "cpu-used": "8", "g": "20"}
FORMATS = {
    "h264": {"name": "a.mp4", "options": {"g": "16", "bf": "0"}},
    "h264 all keyframes": {"name": "a.mp4", "options": {"g": "1"}},
    "h264 B-frames": {"name": "a.mp4", "options": {"g": "12", "bf": "3"}},
    "h264 open GOP": {
        "name": "a.mp4",
        "options": {"bf": "3", "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"},
    },
    "h264 mkv": {"name": "a.mkv", "options": {"g": "12", "bf": "2"}},
    "h264 gap": {"name": "a.mp4", "options": {"g": "12", "bf": "0"}, "times": GAPPED},
    "h264 irregular": {"name": "a.mp4", "options": {"g": "12", "bf": "2"}, "times": IRREGULAR},
    "mpeg4 avi": {"name": "a.avi", "codec": "mpeg4", "options": {"g": "12"}},
    "mpeg4 avi B-frames": {"name": "a.avi", "codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "mpeg4 mp4 B-frames": {"name": "a.mp4", "codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "mpeg2 ts": {"name": "a.ts", "codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "vp9 webm": {"name": "a.webm", "codec": "libvpx-vp9", "options": REALTIME},
    "mjpeg avi": {"name": "a.avi", "codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


def _numbered_video(folder: Path, name: str, **settings: object) -> Path:
    return make_video(
        folder / name,
        num_frames=NUM_FRAMES,
        height=HEIGHT,
        width=WIDTH,
        paint=numbered_paint(HEIGHT, WIDTH),
        **settings,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def shard_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A numbered video as `tb shard` stores it: GOPs of 16."""
    path = _numbered_video(tmp_path_factory.mktemp("shard"), "a.mp4")
    return transcode(path, Recipe(gop=16)).data


def _numbers(data: bytes, indices: list[int], num_frames: int = NUM_FRAMES) -> list[int]:
    frames = decoded_frames(data, np.array(indices), num_frames, SIZE)
    assert len(frames) == len(indices)
    return [read_number(frames[k].to_ndarray(format="gray")) for k in range(len(indices))]


@pytest.mark.parametrize("name", FORMATS)
def test_every_frame_is_the_one_asked_for(name: str, tmp_path: Path) -> None:
    data = _numbered_video(tmp_path, **FORMATS[name]).read_bytes()  # type: ignore[arg-type]
    for first in range(NUM_FRAMES):
        wanted = sorted({first, min(first + 1, NUM_FRAMES - 1), min(first + 9, NUM_FRAMES - 1)})
        assert _numbers(data, wanted) == wanted


@settings(max_examples=30)
@given(st.sets(st.integers(0, NUM_FRAMES - 1), min_size=1))
def test_any_set_of_frames_of_a_shard(shard_video: bytes, chosen: set[int]) -> None:
    assert _numbers(shard_video, sorted(chosen)) == sorted(chosen)


def test_frames_before_the_keyframe_are_not_decoded(shard_video: bytes) -> None:
    damaged = bytearray(shard_video)
    with av.open(io.BytesIO(shard_video), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for packet in packets[:32]:
            assert packet.pos is not None
            damaged[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    assert _numbers(bytes(damaged), [40, 45]) == [40, 45]


def test_a_wrong_frame_count_costs_time_but_no_exactness(shard_video: bytes) -> None:
    assert _numbers(shard_video, [40], NUM_FRAMES + 3) == [40]


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "height", "width"),
    [
        ("libx264", "yuv420p", 66, 68),
        ("libx264", "yuvj420p", 66, 68),
        ("libx264", "yuv444p", 65, 67),
        ("libx264", "yuvj444p", 65, 67),
        ("libx264", "yuv420p10le", 66, 68),
        ("mjpeg", "yuvj420p", 65, 67),
    ],
)
def test_pixel_formats_keep_their_colours(
    codec: str, pix_fmt: str, height: int, width: int, tmp_path: Path
) -> None:
    colour = np.array([200, 90, 40], np.uint8)
    path = make_video(
        tmp_path / "a.mp4",
        num_frames=3,
        height=height,
        width=width,
        codec=codec,
        pix_fmt=pix_fmt,
        paint=lambda _: np.broadcast_to(colour, (height, width, 3)).copy(),
    )
    frames = decoded_frames(path.read_bytes(), np.array([0, 2]), 3, (height, width))
    planes = frame_planes([frames[0], frames[1]], frame_colors(frames[0]))
    to_rgb = frame_color(frames[0]).to_rgb
    for frame in range(2):
        yuv = [planes.pixels(frame, plane, (height, width)).mean() for plane in range(3)]
        np.testing.assert_allclose(to_rgb @ [*yuv, 1] * 255, colour, atol=4)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "cannot be decoded"),
        (lambda data: b"no video at all " * 99, "cannot be decoded"),
        (lambda data: data[: len(data) // 4], "cannot be decoded|ends before"),
    ],
)
def test_what_does_not_decode_says_so(shard_video: bytes, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DecodeError, match=reason):
        decoded_frames(damage(shard_video), np.array([0, 40]), NUM_FRAMES, SIZE)


def test_frames_past_the_end_are_an_error(shard_video: bytes) -> None:
    with pytest.raises(DecodeError, match="ends before frame 50"):
        decoded_frames(shard_video, np.array([20, 50]), 60, SIZE)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH + 2), (HEIGHT - 2, WIDTH), (WIDTH, HEIGHT)])
@pytest.mark.parametrize("first", [0, 40])
def test_pictures_of_another_size_are_an_error(
    shard_video: bytes, first: int, size: tuple[int, int]
) -> None:
    with pytest.raises(DecodeError, match=f"picture of 96x128, .* has {size[0]}x{size[1]}"):
        decoded_frames(shard_video, np.array([first, first + 1]), NUM_FRAMES, size)


def test_a_file_without_pictures_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(DecodeError, match="no video stream"):
        decoded_frames(path.read_bytes(), np.array([0]), 1, SIZE)


def test_of_two_streams_the_one_that_was_verified_is_decoded(tmp_path: Path) -> None:
    """A file may have a small preview before its video; `tb shard` verified the video."""
    path = make_two_streams(
        tmp_path / "a.mkv",
        paint=numbered_paint(HEIGHT, WIDTH),
        num_frames=NUM_FRAMES,
        height=HEIGHT,
        width=WIDTH,
        codec="mpeg4",
    )
    assert _numbers(path.read_bytes(), [0, 7, 44]) == [0, 7, 44]


def test_pictures_that_fill_the_memory_are_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="too large for any decoder"):
        decoded_frames(bomb(tmp_path / "a.gif").read_bytes(), np.array([0]), 3, (1 << 14,) * 2)


def test_a_picture_that_grows_under_its_header_is_not_decoded(tmp_path: Path) -> None:
    data = growing_bomb(tmp_path / "a.mkv").read_bytes()
    assert decoded_frames(data, np.array([0, 3]), 5, (96, 128)) is not None
    with pytest.raises(DecodeError, match="cannot be decoded: Invalid argument"):
        decoded_frames(data, np.array([0, 4]), 5, (96, 128))


def test_a_file_is_checked_without_decoding_it(shard_video: bytes) -> None:
    check_file(shard_video, SIZE)
    with pytest.raises(DecodeError, match="a header that says"):
        check_file(shard_video, (SIZE[0], SIZE[1] + 16))
    with pytest.raises(DecodeError, match="not a video, or its header is damaged"):
        check_file(b"ffconcat version 1.0\nfile other.mp4\n", SIZE)


@pytest.mark.parametrize(
    ("error", "expected", "reason"),
    [
        (av.MemoryError(errno.ENOMEM, "Cannot allocate memory"), MachineError, "lacks memory"),
        (av.PermissionError(errno.EPERM, "not permitted"), DecodeError, "not permitted"),
    ],
)
def test_memory_is_no_video_s_fault_and_other_errors_of_ffmpeg_are(
    shard_video: bytes,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: type[Exception],
    reason: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(av, "open", fail)
    for call in (
        lambda: check_file(shard_video, SIZE),
        lambda: count_frames(shard_video),
        lambda: decoded_frames(shard_video, np.array([0]), 45, SIZE),
    ):
        with pytest.raises(expected, match=reason):
            call()


@pytest.mark.parametrize("defaults", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("extension", ["mkv", "mp4", "avi"])
def test_a_file_is_refused_whose_header_does_not_say_which_stream_counts(
    extension: str, defaults: tuple[bool, bool], tmp_path: Path
) -> None:
    """AVI has no such mark, so FFmpeg's choice there follows from what it decodes."""
    path = make_two_streams(
        tmp_path / f"a.{extension}",
        paint=numbered_paint(HEIGHT, WIDTH),
        num_frames=2,
        height=HEIGHT,
        width=WIDTH,
        codec="mpeg4",
        defaults=defaults,
    )
    if extension != "avi" and sum(defaults) == 1:
        check_file(path.read_bytes(), SIZE)
        return
    with pytest.raises(DecodeError, match=r"several video streams.* engine='fused'"):
        check_file(path.read_bytes(), SIZE)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.mov", "libx264"), ("a.mkv", "libx264")]
)
def test_titles_that_are_not_utf8_do_not_count(name: str, codec: str, tmp_path: Path) -> None:
    path = odd_metadata(tmp_path / name, codec, b"\xd3ne clip")
    assert len(decoded_frames(path.read_bytes(), np.array([0, 9]), 12, SIZE)) == 2


def test_a_playlist_opens_no_other_file(shard_video: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(shard_video)
    playlist = f"ffconcat version 1.0\nfile {tmp_path}/other.mp4\n".encode()
    with pytest.raises(DecodeError, match="cannot be decoded"):
        decoded_frames(playlist, np.array([0]), NUM_FRAMES, SIZE)
