"""A journal that was cut off is continued where it can be, and refused where it cannot."""

import shutil
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.make_videos import make_video
from tests.shards.helpers import files_in


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, bytes]]:
    """Five videos, an ingestion of them that was interrupted after four shards, and a whole one."""
    top = tmp_path_factory.mktemp("few")
    for index in range(5):
        make_video(top / "set" / "a" / f"{index}.mp4", num_frames=4, seed=index)

    def interrupt(num_done: int, total: int, key: str) -> None:
        if num_done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(from_folder(top / "set"), top / "begun", shard_bytes=1, progress=interrupt)
    ingest(from_folder(top / "set"), top / "whole", shard_bytes=1)
    return top / "set", top / "begun", files_in(top / "whole")


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("content", [b"", b'{"next_pos', b"[]", b"\0\xff"])
def test_a_note_that_is_cut_off_is_ignored(
    few: tuple[Path, Path, dict[str, bytes]], tmp_path: Path, index: int, content: bytes
) -> None:
    root, begun, whole = few
    out = Path(shutil.copytree(begun, tmp_path / "out"))
    (out / ".ingest" / f"shard-{index:06d}.json").write_bytes(content)
    report = ingest(from_folder(root), out, shard_bytes=1, workers=1)
    assert report.num_resumed == index
    assert files_in(out) == whole


def test_no_note_stays_behind_one_that_is_cut_off(
    few: tuple[Path, Path, dict[str, bytes]], tmp_path: Path
) -> None:
    """Also if the run that goes on is killed at once: a note stands for all shards before it."""
    root, begun, _ = few
    out = Path(shutil.copytree(begun, tmp_path / "out"))
    assert _numbers(out, "*.tar") == _numbers(out / ".ingest", "shard-*.json") == [0, 1, 2, 3]
    (out / ".ingest" / "shard-000001.json").write_bytes(b"{")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(from_folder(root), out, shard_bytes=1, workers=1, progress=interrupt)
    notes = _numbers(out / ".ingest", "shard-*.json")
    assert notes == list(range(len(notes)))
    assert len(notes) < 4
    # A shard that was just written may lack its note.
    assert _numbers(out, "*.tar") in (notes, [*notes, len(notes)])


def _numbers(folder: Path, pattern: str) -> list[int]:
    return sorted(int(path.name[6:12]) for path in folder.glob(pattern))


@pytest.mark.parametrize("content", [b"", b'{"finger', b"[1]", b"\0\xff"])
def test_settings_that_are_cut_off_are_an_error(
    few: tuple[Path, Path, dict[str, bytes]], tmp_path: Path, content: bytes
) -> None:
    root, begun, _ = few
    out = Path(shutil.copytree(begun, tmp_path / "out"))
    (out / ".ingest" / "settings.json").write_bytes(content)
    with pytest.raises(
        InputError, match=r"out/\.ingest/settings\.json: unreadable .* delete"
    ) as caught:
        ingest(from_folder(root), out, shard_bytes=1)
    assert "\n" not in str(caught.value)
    assert files_in(out) == files_in(begun)
