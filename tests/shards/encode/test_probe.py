"""Frame rates and counts come from the packets, not from the header."""

from fractions import Fraction
from pathlib import Path

import pytest

from shards.encode.encoded import TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from tests.make_videos import make_video
from tests.shards import damage


def test_broadcast_rates_are_kept_exactly(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    path = make_video(tmp_path / "a.mp4", num_frames=12, fps=rate)
    assert transcode(path, Recipe()).fps == rate


def test_a_header_that_promises_a_little_more_is_forgiven(tmp_path: Path) -> None:
    path = damage.boasting_avi(tmp_path / "a.avi", num_promised=15)
    assert transcode(path, Recipe()).num_frames == 12


def test_a_clock_that_runs_too_fast_leaves_no_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=7, fps=1000)
    with pytest.raises(TranscodeError, match="shorter than one frame at 60 frames per second"):
        transcode(path, Recipe())
    assert transcode(path, Recipe(codec="copy")).num_frames == 7
