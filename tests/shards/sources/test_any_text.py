"""A list or table with any text is read, or refused in one line that names the file."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shards.sources.hmdb51 import from_hmdb51
from shards.sources.kinetics400 import from_kinetics400
from shards.sources.table import from_csv
from shards.sources.ucf101 import from_ucf101
from tests.shards.any_text import any_text, any_text_settings, check_refusal
from tests.shards.helpers import touch

_UCF101 = "Archery/v_Archery_g01_c01.avi"
_HMDB51 = "movie_wave_f_cm_np1_fr_med_0.avi"


@any_text_settings
@given(st.sampled_from([b"path,label,split\n", b"path,label\n", b""]), any_text(separator=","))
def test_any_table(tmp_path: Path, header: bytes, text: bytes) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    table = tmp_path / "set.csv"
    table.write_bytes(header + b"a.mp4,x\nb.mp4,x\n" + text)
    check_refusal(table, from_csv, table)


@any_text_settings
@given(
    st.sampled_from([b"label,youtube_id,time_start,split\n", b""]),
    any_text("abcdefghijk", separator=","),
)
def test_any_list_of_kinetics(tmp_path: Path, header: bytes, text: bytes) -> None:
    touch(tmp_path / "set", "abcdefghijk_000001_000011.mp4")
    table = tmp_path / "list.csv"
    table.write_bytes(header + b"a,abcdefghijk,1,train\n" + text)
    check_refusal(table, from_kinetics400, tmp_path / "set", [table])


@any_text_settings
@given(any_text(_HMDB51), st.sampled_from([1, 2, 3]))
def test_any_list_of_hmdb51(tmp_path: Path, text: bytes, changed: int) -> None:
    touch(tmp_path / "set", f"wave/{_HMDB51}")
    (tmp_path / "lists").mkdir(exist_ok=True)
    for number in (1, 2, 3):
        good = f"{_HMDB51} 1\n".encode()
        content = good + text if number == changed else good
        (tmp_path / "lists" / f"wave_test_split{number}.txt").write_bytes(content)
    file = tmp_path / "lists" / f"wave_test_split{changed}.txt"
    check_refusal(file, from_hmdb51, tmp_path / "set", tmp_path / "lists")


@any_text_settings
@given(any_text(_UCF101), st.sampled_from(["trainlist01", "testlist01", "testlist03"]))
def test_any_list_of_ucf101(tmp_path: Path, text: bytes, changed: str) -> None:
    touch(tmp_path / "set", _UCF101)
    (tmp_path / "lists").mkdir(exist_ok=True)
    for name in (
        "trainlist01",
        "trainlist02",
        "trainlist03",
        "testlist01",
        "testlist02",
        "testlist03",
    ):
        good = (
            f"{_UCF101}\n".encode() if name in ("testlist01", "trainlist02", "trainlist03") else b""
        )
        content = good + text if name == changed else good
        (tmp_path / "lists" / f"{name}.txt").write_bytes(content)
    file = tmp_path / "lists" / f"{changed}.txt"
    check_refusal(file, from_ucf101, tmp_path / "set", tmp_path / "lists")
