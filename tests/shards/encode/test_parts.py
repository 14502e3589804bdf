"""Parts of a file: which frames they hold, one decode for all of them, and their faults."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.encode import transcode as transcode_module
from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode, transcode_parts
from shards.sources.segment import Segment
from tests.make_videos import make_video
from tests.shards import damage
from tests.shards.helpers import decoded_rgb
from tests.shards.numbered_videos import make_numbered, numbers_in

_NUM_FRAMES = 120
_CHEAP = Recipe(quality=30, short_side_px=64, gop=8)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 120 pictures at a constant rate, at a variable one, and at more than 60 fps."""
    folder = tmp_path_factory.mktemp("numbered")
    times = [(index + (index % 3 == 1) * 0.8 + index // 40) / 25 for index in range(_NUM_FRAMES)]
    return {
        "constant": make_numbered(folder / "constant.mp4", _NUM_FRAMES, fps=25),
        "ntsc": make_numbered(folder / "ntsc.mkv", _NUM_FRAMES, fps=Fraction(30000, 1001)),
        "variable": make_numbered(folder / "variable.mkv", _NUM_FRAMES, times=times),
        "fast": make_numbered(folder / "fast.mp4", _NUM_FRAMES, fps=100),
    }


def _segment(start: str, end: str | None = None) -> Segment:
    end_s = None if end is None else Fraction(end)
    return Segment(start_s=Fraction(start), end_s=end_s, origin="line 2")


def _numbers(result: Encoded | TranscodeError) -> list[int]:
    assert isinstance(result, Encoded)
    numbers = numbers_in(result.data)
    assert len(numbers) == result.num_frames
    return numbers


@cache
def _whole(path: Path) -> Encoded:
    return transcode(path, _CHEAP)


# Times are in steps of 0.1 ms, so boundaries fall on frames, near them and between them.
_times = st.integers(0, 12_000).map(lambda n: Fraction(n, 10_000))


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["constant", "ntsc", "variable", "fast"]),
    pairs=st.lists(st.tuples(_times, st.none() | _times), min_size=1, max_size=4),
    with_whole=st.booleans(),
)
def test_a_part_shows_the_frames_of_the_whole_from_start_to_before_the_end(
    videos: dict[str, Path],
    kind: str,
    pairs: list[tuple[Fraction, Fraction | None]],
    with_whole: bool,
) -> None:
    whole = _whole(videos[kind])
    shown = numbers_in(whole.data)
    parts: list[Segment | None] = [
        Segment(start_s=start, end_s=None if end is None else start + end)
        for start, end in pairs
        if end != 0
    ]
    if with_whole:
        parts.append(None)
    results = list(transcode_parts(videos[kind], parts, _CHEAP))
    assert len(results) == len(parts)
    for part, result in zip(parts, results, strict=True):
        if part is None:
            assert result == whole
            continue
        # Frame i belongs to a segment if its time, half a frame later, lies in [start, end).
        middles = [(index + Fraction(1, 2)) / whole.fps for index in range(len(shown))]
        due = [
            number
            for number, middle in zip(shown, middles, strict=True)
            if part.start_s < middle and (part.end_s is None or middle <= part.end_s)
        ]
        is_beyond = part.end_s is not None and part.end_s * whole.fps >= len(shown) + Fraction(1, 2)
        if is_beyond or not due:
            assert isinstance(result, TranscodeError)
        else:
            assert _numbers(result) == due


def test_segments_that_follow_each_other_share_no_frame_and_lose_none(
    videos: dict[str, Path],
) -> None:
    cuts = ["0", "0.5", "0.6", "1.3333", "2.017", None]
    parts = [_segment(str(one), other) for one, other in pairwise(cuts)]
    results = transcode_parts(videos["constant"], parts, _CHEAP)
    numbers = [number for result in results for number in _numbers(result)]
    assert numbers == list(range(_NUM_FRAMES))


def test_a_segment_is_stored_as_if_its_frames_were_a_file(tmp_path: Path) -> None:
    """Lossless files, so both encoders see the same pictures."""
    how = {"codec": "ffv1", "pix_fmt": "yuv444p"}
    path = make_numbered(tmp_path / "a.mkv", 40, **how)
    make_numbered(tmp_path / "first.mkv", 25, **how)
    (segment,) = transcode_parts(path, [_segment("0", "1")], Recipe())
    assert segment == transcode(tmp_path / "first.mkv", Recipe())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each decode of a source: how many frames it gave."""
    counts: list[int] = []
    decoded: Callable[..., Iterator[object]] = transcode_module.decoded

    def counting(*args: object) -> Iterator[object]:
        counts.append(0)
        for frame in decoded(*args):
            counts[-1] += 1
            yield frame

    monkeypatch.setattr(transcode_module, "decoded", counting)
    return counts


def test_a_file_is_decoded_once_and_not_beyond_its_last_segment(
    videos: dict[str, Path], counted: list[int]
) -> None:
    parts = [_segment("0", "0.4"), _segment("0.2", "1"), _segment("0.8", "1"), _segment("1", "2")]
    results = list(transcode_parts(videos["constant"], parts, _CHEAP))
    assert [len(_numbers(result)) for result in results] == [10, 20, 5, 25]
    assert counted == [50]


def test_a_result_is_there_when_its_last_frame_is(
    videos: dict[str, Path], counted: list[int]
) -> None:
    results = transcode_parts(videos["constant"], [_segment("0", "0.4"), _segment("2")], _CHEAP)
    next(results)
    assert counted == [10]
    next(results)
    assert counted == [_NUM_FRAMES]


def test_a_segment_that_ends_with_interlaced_pictures_is_deinterlaced_as_in_the_whole(
    tmp_path: Path,
) -> None:
    """The picture after its last one is progressive, and deinterlacing looks at it."""
    halves = {"a.m2v": "+ildct+ilme", "b.m2v": "0"}
    for name, flags in halves.items():
        options = {"flags": flags, "b": "8M"}
        make_video(tmp_path / name, num_frames=6, codec="mpeg2video", options=options)
    path = tmp_path / "mixed.m2v"
    path.write_bytes(b"".join((tmp_path / name).read_bytes() for name in halves))
    recipe = Recipe(codec="mjpeg")  # each picture by itself
    (whole,), (part,) = (
        list(transcode_parts(path, [segment], recipe)) for segment in (None, _segment("0", "0.24"))
    )
    assert isinstance(whole, Encoded)
    assert isinstance(part, Encoded)
    assert (whole.num_frames, part.num_frames) == (12, 6)
    np.testing.assert_array_equal(decoded_rgb(part.data), decoded_rgb(whole.data)[:6])


def test_max_seconds_cuts_each_segment(videos: dict[str, Path]) -> None:
    recipe = Recipe(quality=30, short_side_px=64, max_seconds=0.2)
    parts = [_segment("1", "1.12"), _segment("1", "3"), _segment("4"), _segment("4.72")]
    results = transcode_parts(videos["constant"], parts, recipe)
    assert [_numbers(result)[0] for result in results] == [25, 25, 100, 118]
    results = transcode_parts(videos["constant"], parts, recipe)
    assert [len(_numbers(result)) for result in results] == [3, 5, 5, 2]


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (_segment("1", "4.83"), "line 2: end_s 4.83: after the end of the file, which has about"),
        (_segment("4.8", "6"), "line 2: start_s 4.8: after the end of the file"),
        (_segment("7"), "line 2: start_s 7: after the end of the file, which has about 4.80 s"),
        (_segment("1", "1.01"), "line 2: end_s 1.01: no frame since start_s, at 25 frames per"),
    ],
)
def test_a_segment_without_frames_has_a_reason_and_costs_no_other(
    videos: dict[str, Path], segment: Segment, expected: str
) -> None:
    parts = [_segment("0", "0.2"), segment, _segment("1", "1.2")]
    first, bad, last = transcode_parts(videos["constant"], parts, _CHEAP)
    assert expected in str(bad)
    assert (_numbers(first)[0], _numbers(last)[0]) == (0, 25)


def test_the_end_may_be_half_a_frame_late(videos: dict[str, Path]) -> None:
    (result,) = transcode_parts(videos["constant"], [_segment("4.6", "4.8199")], _CHEAP)
    assert _numbers(result) == [115, 116, 117, 118, 119]


def test_damage_costs_the_segments_that_need_the_damaged_frame_or_a_later_one(
    tmp_path: Path,
) -> None:
    path = damage.zeroed_middle(tmp_path / "a.mp4")  # 60 frames at 25 fps
    parts = [_segment("0", "0.12"), _segment("0.1", "2.4"), None]
    first, *others = transcode_parts(path, parts, _CHEAP)
    assert isinstance(first, Encoded)
    for other in others:
        assert isinstance(other, TranscodeError)
        assert "frame" in str(other)
