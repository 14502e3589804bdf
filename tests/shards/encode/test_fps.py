"""Another frame rate: which frames appear, and what stays the same."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.encode.encoded import TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode, transcode_parts
from shards.sources.segment import Segment
from tests.shards.helpers import fault_of
from tests.shards.numbered_videos import make_numbered, numbers_in

_NUM_FRAMES = 60
_RATES = [Fraction(12), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(50)]


def _cheap(fps: int | None) -> Recipe:
    return Recipe(quality=30, short_side_px=64, gop=8, fps=fps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rates")
    for index, rate in enumerate(_RATES):
        make_numbered(root / f"{index}.mkv", _NUM_FRAMES, fps=rate)
    return root


def _shown(times: Sequence[Fraction], end: Fraction, fps: int) -> list[int]:
    """The number of the source frame that each stored frame shows.

    Args:
        times: When the source shows its frames, s.
        end: When the last one ends, s.
        fps: The stored frames per second.
    """
    places = [floor(time * fps + Fraction(1, 2)) for time in times]
    num_stored = floor(end * fps + Fraction(1, 2))
    return [
        max(number for number, place in enumerate(places) if place <= stored)
        for stored in range(num_stored)
    ]


@settings(max_examples=20, deadline=None)
@given(source=st.sampled_from(range(len(_RATES))), fps=st.integers(1, 60))
def test_each_frame_is_the_last_one_of_its_time(folder: Path, source: int, fps: int) -> None:
    rate, path = _RATES[source], folder / f"{source}.mkv"
    times = [index / rate for index in range(_NUM_FRAMES)]
    stored = transcode(path, _cheap(fps))
    assert stored.fps == fps
    assert numbers_in(stored.data) == _shown(times, _NUM_FRAMES / rate, fps)


def test_a_video_with_that_rate_has_the_same_bytes(folder: Path) -> None:
    for source, rate in enumerate(_RATES):
        if rate.denominator == 1:
            path = folder / f"{source}.mkv"
            assert transcode(path, _cheap(int(rate))) == transcode(path, _cheap(None))


def test_a_variable_rate_follows_its_times(tmp_path: Path) -> None:
    gaps = [1] * 10 + [6, 1, 4] * 3 + [1] * 11
    ticks = np.cumsum([0, *gaps])
    path = make_numbered(tmp_path / "a.mkv", 30, times=[float(t) / 25 for t in ticks[:-1]])
    numbers = numbers_in(transcode(path, _cheap(10)).data)
    due = _shown([Fraction(int(t), 25) for t in ticks[:-1]], Fraction(int(ticks[-1]), 25), 10)
    # How long the last frame is shown is not in the file.
    assert numbers[: len(due) - 1] == due[:-1]
    assert abs(len(numbers) - len(due)) <= 1


def test_a_faster_source_is_not_first_reduced_to_60(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "a.mp4", 120, fps=240)
    numbers = numbers_in(transcode(path, _cheap(48)).data)
    assert numbers == _shown([Fraction(n, 240) for n in range(120)], Fraction(1, 2), 48)
    assert set(np.diff(numbers)) == {5}


def test_segments_and_max_seconds_count_stored_frames(folder: Path) -> None:
    path = folder / "3.mkv"  # 30 frames per second
    whole = numbers_in(transcode(path, _cheap(12)).data)
    parts = [
        Segment(start_s=Fraction(0), end_s=Fraction(1)),
        Segment(start_s=Fraction(1, 2), end_s=Fraction(3, 2)),
    ]
    first, second = transcode_parts(path, parts, _cheap(12))
    for result, numbers in ((first, whole[:12]), (second, whole[6:18])):
        assert not isinstance(result, TranscodeError)
        assert numbers_in(result.data) == numbers
    short = transcode(path, Recipe(fps=12, max_seconds=0.5, short_side_px=64))
    assert numbers_in(short.data) == whole[:6]


def test_a_video_shorter_than_a_frame_is_named(folder: Path) -> None:
    path = make_numbered(folder / "short.mp4", 4, fps=25)
    with pytest.raises(TranscodeError, match="shorter than one frame at 1 frames per second"):
        transcode(path, _cheap(1))


def test_copies_keep_their_rate() -> None:
    assert "recipe copy: it has no fps" in fault_of(Recipe, codec="copy", fps=25)
