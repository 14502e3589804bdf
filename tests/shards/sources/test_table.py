"""Sources from tables, and the messages if the tables have a mistake."""

from pathlib import Path

import pytest

from shards.sources.table import from_csv
from tests.shards.helpers import fault_of, first_splits, pairs, touch


def _table(tmp_path: Path, text: str | bytes) -> Path:
    touch(tmp_path, *pairs(3, "a", "b"))
    path = tmp_path / "set.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_table_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = '\ufeffpath , label,notes\r\n"a/0.mp4", x ,"1, 2"\r\n\r\na/1.mp4,x,\r\n'
    dataset = from_csv(_table(tmp_path, text))
    assert dataset.classes == ("x",)
    assert [source.path.name for source in dataset.sources] == ["0.mp4", "1.mp4"]
    assert first_splits(dataset) == {"train": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: no column 'path'"),
        ("path,class\n", "line 1: no column 'label' (found: path, class)"),
        ("path,label\n", "has no rows"),
        (
            "path,label\na/8.mp4,x\na/9.mp4,x\n",
            "none of the listed videos (2) is there, e.g. line 2",
        ),
        ("path,label\na,x\na/9.mp4,x\n", "line 2: a: no such file"),
        ("path,label\n" + "a" * 5000 + ",x\nb,x\n", "no such file"),
        ("path,label\na/0.mp4,x\na/9.mp4,x\na/9.mp4,x\n", "line 4: a/9.mp4 is already on line 3"),
        ("path,label,split\na/0.mp4,x,\na/9.mp4,x,dev\n", "line 3: split 'dev'"),
        ("path,label\na/0.mp4,\n", "line 2: label is empty"),
        ("path,label\n,x\n", "line 2: path is empty"),
        ("path,label\na/0.mp4\n", "line 2: label is empty"),
        ("path,label\na/0.mp4,x\na/../a/0.mp4,y\n", "line 3: a/../a/0.mp4 is already on line 2"),
        ("path,label,split\na/0.mp4,x,dev\n", "line 2: split 'dev': write train, val, test"),
        ("path,label\na/0.mp4,x\nb/0.mp4,y\nb/1.mp4,y\n", "class 'x' has 1 video"),
        (b"path,label\na/0.mp4,caf\xe9\n", "not a text file in UTF-8"),
        (b"path,label\na/0.mp4,\0\n", "set.csv"),
    ],
)
def test_tables_with_a_mistake(tmp_path: Path, text: str | bytes, expected: str) -> None:
    path = _table(tmp_path, text)
    message = fault_of(from_csv, path)
    assert expected in message
    assert str(path) in message


def test_listed_videos_that_do_not_exist_are_missing(tmp_path: Path) -> None:
    text = "path,label\na/0.mp4,x\na/9.mp4,x\n" + "a" * 5000 + ",y\na,y\n"
    dataset = from_csv(_table(tmp_path, text))
    assert [source.path.name for source in dataset.sources] == ["0.mp4"]
    assert dataset.missing == ("a/9.mp4", "a" * 5000, "a")
    assert dataset.classes == ("x", "y")


def test_no_table(tmp_path: Path) -> None:
    assert "no such file; give a table" in fault_of(from_csv, tmp_path / "x.csv")
