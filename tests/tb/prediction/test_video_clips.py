"""Clips of files are those of the frames that are there, whole or in stretches."""

import subprocess
import sys
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame

from loaders import Render
from loaders.plan.stage_views import evaluation
from shards.encode.upright import open_upright
from shards.errors import InputError
from tb.prediction.video_clips import clips_of_frames, find_videos, stretches, whole_video
from tests.make_videos import make_video

VARIABLE = [index / 25 if index < 20 else 0.8 + (index - 20) / 6 for index in range(30)]


@pytest.fixture
def render() -> Render:
    return Render(evaluation(num_frames=4, stride=2, size_px=16, num_clips=3))


def frames_of(path: Path) -> tuple[list[VideoFrame], tuple[int, int], Fraction]:
    with open_upright(path) as video:
        return list(video.frames), video.size, video.fps


@pytest.mark.parametrize("times", [None, VARIABLE], ids=["constant", "variable"])
def test_a_whole_video(tmp_path: Path, render: Render, times: list[float] | None) -> None:
    """Also where the packets promise another number of frames than there are."""
    path = make_video(tmp_path / "a.mp4", num_frames=30, times=times)
    frames, size, fps = frames_of(path)
    found = whole_video(path, render)
    expected = render.footage(iter(frames), len(frames), size, key=0, epoch=0)["clips"]
    assert torch.equal(found.clips, expected)
    assert found.clips.shape == (3, 1, 3, 4, 16, 16)
    assert (found.begin_s, found.end_s) == (0, float(len(frames) / fps))


@pytest.mark.parametrize("times", [None, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize("every_s", [Fraction("0.3"), Fraction(1, 25), Fraction(50)])
def test_stretches_are_videos_of_their_own(
    tmp_path: Path, render: Render, every_s: Fraction, times: list[float] | None
) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=30, times=times)
    frames, size, fps = frames_of(path)
    found = list(stretches(path, render, every_s))
    begin = 0
    for number, one in enumerate(found, 1):
        end = min(max(begin + 1, ceil(number * every_s * fps)), len(frames))
        assert (one.begin_s, one.end_s) == (float(begin / fps), float(end / fps))
        part = frames[begin:end]
        if number < len(found) or times is None:  # the last one may be filled up
            expected = render.footage(iter(part), len(part), size, key=0, epoch=0)["clips"]
            assert torch.equal(one.clips, expected)
        begin = end
    assert begin == len(frames)


@pytest.mark.parametrize("fps", [20, 60])
def test_clips_in_seconds_show_the_same_moments_at_every_rate(tmp_path: Path, fps: int) -> None:
    """0.1 s are 2 frames at 20 fps, and 6 at 60."""
    path = make_video(tmp_path / "a.mp4", num_frames=fps, fps=fps)
    in_seconds = Render(
        evaluation(num_frames=4, stride=None, stride_s=0.1, size_px=16, num_clips=3)
    )
    in_frames = Render(evaluation(num_frames=4, stride=fps // 10, size_px=16, num_clips=3))
    assert torch.equal(whole_video(path, in_seconds).clips, whole_video(path, in_frames).clips)
    for one, other in zip(
        stretches(path, in_seconds, Fraction(1, 2)),
        stretches(path, in_frames, Fraction(1, 2)),
        strict=True,
    ):
        assert torch.equal(one.clips, other.clips)
    with pytest.raises(
        InputError, match=r"stride_s of this classifier's clips is 0\.1, and frames"
    ):
        clips_of_frames(np.zeros((9, 40, 50, 3), np.uint8), in_seconds)
    too_short = Render(evaluation(num_frames=4, stride=None, stride_s=0.005, size_px=16))
    with pytest.raises(InputError, match=r"less than half a frame of video '.*a\.mp4' at"):
        whole_video(make_video(tmp_path / "b" / "a.mp4", fps=20), too_short)


def test_arrays_of_frames(render: Render) -> None:
    """Each frame has its own grey, and a tint that no other channel order would give."""
    rgb = np.full((30, 40, 50, 3), 8 * np.arange(30)[:, None, None, None], np.uint8)
    rgb[..., 0] += 10
    found = clips_of_frames(rgb, render)
    assert (found.video, found.end_s) == ("frames", None)
    shown = np.array([0, 12, 23])[:, None] + 2 * np.arange(4)  # three starts, a stride of 2
    expected = torch.from_numpy(rgb[shown, 0, 0]).movedim(-1, 1)[:, None, ..., None, None] / 255
    assert (found.clips - expected).abs().max() < 2 / 255
    for wrong in (rgb[0], rgb[..., :2], rgb[:0], rgb.astype(np.float32)):
        with pytest.raises(InputError, match=r"give \(F, H, W, 3\) uint8 RGB"):
            clips_of_frames(wrong, render)


def test_bad_files_are_named(tmp_path: Path, render: Render) -> None:
    good = make_video(tmp_path / "good.mp4", num_frames=60).read_bytes()
    for name, data in (("empty", b""), ("junk", b"junk"), ("cut", good[: len(good) // 2])):
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        for call in (
            lambda: whole_video(path, render),  # noqa: B023
            lambda: list(stretches(path, render, Fraction(1))),  # noqa: B023
        ):
            with pytest.raises(InputError, match=rf"{name}\.mp4: "):
                call()


def test_folders_are_searched(tmp_path: Path) -> None:
    for name in ("b/c/2.mp4", "b/1.AVI", "b/note.txt", "a.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos([tmp_path / "b", tmp_path / "a.bin"])
    assert found == [tmp_path / name for name in ("b/1.AVI", "b/c/2.mp4", "a.bin")]
    (tmp_path / "d").mkdir()
    with pytest.raises(InputError, match="no videos in this folder"):
        find_videos([tmp_path / "d"])
    with pytest.raises(InputError, match="no such file or folder"):
        find_videos([tmp_path / "none.mp4"])


_MEASURE = """
import sys
from fractions import Fraction
from pathlib import Path
from loaders import Render
from loaders.plan.stage_views import evaluation
from tb.prediction.video_clips import stretches, whole_video

render = Render(evaluation(num_frames=4, stride=2, size_px=16, num_clips=1))
peaks = []
for path in map(Path, sys.argv[1:]):
    whole_video(path, render)
    num_stretches = sum(1 for _ in stretches(path, render, Fraction(1)))
    # Not `ru_maxrss`, which is at least the size of the process that started this one.
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    peaks.append(int(line.split()[1]))
print(num_stretches, peaks[1] - peaks[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    size: dict[str, Any] = {"height": 240, "width": 320}
    short, long = (
        make_video(
            tmp_path / f"{num_frames}.mp4",
            num_frames=num_frames,
            paint=lambda index: np.roll(picture, index, axis=1),
            options={"preset": "ultrafast"},
            **size,
        )
        for num_frames in (50, 600)
    )
    line = [sys.executable, "-c", _MEASURE, str(short), str(long)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    num_stretches, growth_kb = map(int, done.stdout.split())
    assert num_stretches == 24
    assert growth_kb * 1024 < 600 * 240 * 320 * 1.5 / 4  # a quarter of all its frames
