"""A file that was cut anywhere has fewer bytes than its headers announce; a whole one has all."""

from pathlib import Path

import pytest

from shards.encode.truncation import missing_bytes
from tests.make_videos import make_video

_CODEC = {"mp4": "libx264", "mov": "libx264", "avi": "mpeg4", "mkv": "libx264", "webm": "libvpx"}


@pytest.mark.parametrize("extension", _CODEC)
def test_a_whole_file_misses_nothing(tmp_path: Path, extension: str) -> None:
    path = make_video(tmp_path / f"a.{extension}", num_frames=10, codec=_CODEC[extension])
    assert missing_bytes(path) == 0


@pytest.mark.parametrize("extension", _CODEC)
@pytest.mark.parametrize("num_cut", [1, 100, 2000])
def test_a_cut_file_misses_what_was_cut(tmp_path: Path, extension: str, num_cut: int) -> None:
    path = make_video(tmp_path / f"a.{extension}", num_frames=10, codec=_CODEC[extension])
    data = path.read_bytes()
    path.write_bytes(data[:-num_cut])
    missing = missing_bytes(path)
    # The last box of an MP4 is its index. Without it, only a part of the box before is missing.
    assert missing == num_cut or (extension in ("mp4", "mov") and 0 < missing < num_cut)


@pytest.mark.parametrize("extension", ["ts", "mpg"])
def test_streams_promise_nothing(tmp_path: Path, extension: str) -> None:
    path = make_video(tmp_path / f"a.{extension}", num_frames=10, codec="mpeg2video")
    path.write_bytes(path.read_bytes()[:-500])
    assert missing_bytes(path) == 0


@pytest.mark.parametrize("data", [b"", b"RIFF", b"\0" * 50, b"\x1a\x45\xdf\xa3", b"plain text"])
def test_anything_else_promises_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert missing_bytes(path) == 0
