"""A text file that is too large is named, and no more of it is read than the limit."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.files import text_file
from shards.files.text_file import read_text
from shards.format.manifest import Manifest
from shards.labels.label_list import read_label_list
from shards.sources.kinetics400 import from_kinetics400
from shards.sources.table import from_csv
from shards.sources.ucf101 import from_ucf101
from tests.shards.helpers import fault_of, touch


def _sparse(path: Path, num_bytes: int) -> Path:
    """A file of zeros that takes no space."""
    path.touch()
    os.truncate(path, num_bytes)
    return path


def _kinetics(path: Path, _: Manifest) -> None:
    touch(path.parent / "kinetics", "abcdefghijk_000001_000011.mp4")
    from_kinetics400(path.parent / "kinetics", [path])


def _ucf101(path: Path, _: Manifest) -> None:
    touch(path.parent / "ucf101", "Archery/v_Archery_g01_c01.avi")
    from_ucf101(path.parent / "ucf101", path.parent)


READERS: dict[str, Callable[[Path, Manifest], object]] = {
    "labels.txt": read_label_list,
    "table.csv": lambda path, _: from_csv(path),
    "train.csv": _kinetics,
    "trainlist01.txt": _ucf101,
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_too_large_is_named(manifest: Manifest, tmp_path: Path, name: str) -> None:
    path = _sparse(tmp_path / name, (128 << 20) + 1)
    message = fault_of(READERS[name], path, manifest)
    assert message.startswith(f"{path}: has more than 134217728 bytes, the limit of a text file; ")


def test_no_more_than_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_file, "MAX_TEXT_BYTES", 1000)
    assert read_text(_sparse(tmp_path / "fits", 1000), "") == "\0" * 1000
    path = _sparse(tmp_path / "large", 50_000_000)
    tracemalloc.start()
    try:
        assert "has more than 1000 bytes" in fault_of(read_text, path, "")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
