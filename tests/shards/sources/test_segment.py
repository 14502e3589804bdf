"""Segments in tables: keys, groups, names, and the messages about their times."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.sources.segment import Segment, seconds_text, segment_of
from shards.sources.table import from_csv
from tests.shards.helpers import fault_of, touch


def _table(tmp_path: Path, *rows: str) -> Path:
    touch(tmp_path, "a/long.mp4", "b/long.mp4", "b/c.mp4")
    path = tmp_path / "set.csv"
    path.write_text("\n".join(["path,label,start_s,end_s,group", *rows]))
    return path


def test_keys_names_and_groups(tmp_path: Path) -> None:
    rows = ["b/c.mp4,y,,,", "a/long.mp4,x,12.50,20,", "a/long.mp4,x,3,,mine", "a/long.mp4,x,,3,"]
    dataset = from_csv(_table(tmp_path, *rows), min_per_class=1)
    found = [(s.key, s.name, s.group) for s in dataset.sources]
    assert found == [
        ("long-0-3", "a/long.mp4#t=0,3", "a/long.mp4"),
        ("long-3-end", "a/long.mp4#t=3", "mine"),
        ("long-12_5-20", "a/long.mp4#t=12.5,20", "a/long.mp4"),
        ("c", "b/c.mp4", ""),
    ]


def test_keys_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [f"{name}/long.mp4,{name},{n},{n + 2}," for n in range(5) for name in "ab"]
    keys = [
        {(s.path.parent.name, s.segment): s.key for s in from_csv(_table(tmp_path, *order)).sources}
        for order in (rows, rows[::-1])
    ]
    assert keys[0] == keys[1]
    assert len(set(keys[0].values())) == 10


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("-1,2", "line 3: start_s '-1': give seconds from 0 on, such as 12.5"),
        ("1,-2", "line 3: end_s '-2': give seconds"),
        ("nan,2", "line 3: start_s 'nan'"),
        ("0,inf", "line 3: end_s 'inf'"),
        ("0,1e9999999999", "line 3: end_s '1e9999999999'"),
        ("00:01,2", "line 3: start_s '00:01'"),
        ("5,4", "line 3: end_s 4: must be greater than start_s 5"),
        ("5,5.0", "line 3: end_s 5: must be greater than start_s 5"),
        (",0", "line 3: end_s 0: must be greater than start_s 0"),
        ("1,2.0", "line 3: a/long.mp4#t=1,2 is already on line 2"),
    ],
)
def test_times_that_cannot_be_used(tmp_path: Path, row: str, expected: str) -> None:
    path = _table(tmp_path, "a/long.mp4,x,1.0,2,", f"a/long.mp4,x,{row},")
    message = fault_of(from_csv, path)
    assert expected in message
    assert str(path) in message


def test_segments_of_a_file_that_is_missing_are_listed_by_name(tmp_path: Path) -> None:
    rows = ["a/long.mp4,x,1,2,", "gone.mp4,x,1,2,", "gone.mp4,x,4,,"]
    dataset = from_csv(_table(tmp_path, *rows), min_per_class=1)
    assert dataset.missing == ("gone.mp4#t=1,2", "gone.mp4#t=4")


def test_values_of_a_segment_are_checked() -> None:
    assert "start_s -1: must not be below 0" in fault_of(Segment, start_s=Fraction(-1))
    assert fault_of(Segment, start_s=12.5) == "start_s is 12.5: give Fraction('12.5')"
    assert fault_of(Segment, start_s=0, end_s=0.1) == "end_s is 0.1: give Fraction('0.1')"


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1))
def test_the_text_of_seconds_is_exact_and_has_one_form(whole: int, billionths: int) -> None:
    text = f"{whole}.{billionths:09d}"
    segment = segment_of(text, "", "")
    assert segment is not None
    assert segment.start_s == Fraction(text)
    assert Fraction(seconds_text(segment.start_s)) == segment.start_s
    assert seconds_text(segment.start_s) == text.rstrip("0").rstrip(".")


def test_seconds_without_a_decimal_form() -> None:
    assert str(Segment(start_s=Fraction(1, 3), end_s=Fraction(2))) == "t=1/3,2"
