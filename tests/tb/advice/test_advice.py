"""The rule of the choice, on made-up measurements."""

import json

import pytest

from shards.encode.recipe import Recipe
from shards.errors import InputError
from tb.advice.advice import Advice, Limits
from tb.advice.measure import Measured, Measurements


def _measured(codec: str, side: int | None, mb: float, cpu_ms: float, psnr_db: float) -> Measured:
    return Measured(
        recipe=Recipe(codec=codec, short_side_px=side),
        bytes_per_video=mb * 1e4,
        set_bytes=int(mb * 1e6),
        videos_per_s=1000 / cpu_ms,
        cpu_ms=cpu_ms,
        psnr_db=psnr_db,
    )


LARGE = _measured("h264", 240, 45, 5.0, 43)
MIDDLE = _measured("h264", 160, 22, 3.0, 37)
SMALL = _measured("h264", 112, 13, 2.0, 33)
FAST = _measured("mjpeg", 160, 75, 2.1, 38)
AS_FAST = _measured("mjpeg", 176, 80, 2.05, 39)
COPY = _measured("copy", None, 70, 4.5, float("inf"))
ALL = [LARGE, MIDDLE, SMALL, FAST, AS_FAST, COPY]


def _advice(
    *measured: Measured,
    max_gb: float | None = None,
    min_psnr_db: float = 35,
) -> Advice:
    return Advice(
        views="student",
        size_px=112,
        num_videos=100,
        source_bytes=69_000_000,
        found=Measurements(measured=list(measured), num_videos=8, skipped=[], left_out={}),
        limits=Limits(max_gb=max_gb, min_psnr_db=min_psnr_db),
    )


def test_the_fastest_that_fits_and_of_equals_the_smallest() -> None:
    assert _advice(*ALL, max_gb=0.03).choice is MIDDLE
    for order in (ALL, ALL[::-1]):
        assert _advice(*order, max_gb=1).choice is FAST  # 2.05 ms is within 5 %, and larger
    assert _advice(*ALL, max_gb=0.03, min_psnr_db=30).choice is SMALL
    assert _advice(*ALL, max_gb=1, min_psnr_db=45).choice is COPY
    assert _advice(*ALL, max_gb=0.022).choice is MIDDLE  # 22 MB exactly


def test_without_a_budget_it_is_twice_the_smallest() -> None:
    assert _advice(*ALL).choice is MIDDLE  # FAST takes 75 MB, twice 22 MB is less
    assert _advice(LARGE, FAST).choice is FAST  # twice 45 MB is more
    assert _advice(*ALL, min_psnr_db=30).space_bytes == 26e6


def test_a_budget_below_the_smallest_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"max_gb is 0.02 .*h264 gop 16 ≤160, needs 0.022 GB"):
        _ = _advice(*ALL, max_gb=0.02).choice
    with pytest.raises(InputError, match=r"min_psnr is 50 dB .*h264 gop 16 ≤240, has 43.0 dB"):
        _ = _advice(LARGE, SMALL, min_psnr_db=50).choice


@pytest.mark.parametrize("max_gb", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_positive_number(max_gb: float) -> None:
    with pytest.raises(InputError, match=r"--max-gb"):
        Limits(max_gb=max_gb, min_psnr_db=35)
    with pytest.raises(InputError, match=r"--min-psnr"):
        Limits(max_gb=None, min_psnr_db=max_gb)


def test_the_file_has_no_infinity_and_no_choice_where_there_is_none() -> None:
    found = json.loads(_advice(*ALL, max_gb=0.02).to_json())
    assert found["choice"] is None
    assert found["candidates"][-1]["psnr_db"] is None
    assert "Infinity" not in _advice(*ALL).to_json()
    assert json.loads(_advice(*ALL).to_json())["choice"] == "h264 gop 16 ≤160"
