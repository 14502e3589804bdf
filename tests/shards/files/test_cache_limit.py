"""Copies of remote shards stay within the limit, and reading goes on."""

import os
from pathlib import Path

import pytest

from shards.encode.recipe import Recipe
from shards.files.cache_limit import make_room, note_use
from shards.format.dataset_json import read_dataset_json
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.shards.helpers import fault_of


@pytest.fixture
def copies(own_cache: Path) -> list[Path]:
    """Four copies of 1000 bytes in two data sets, the longest unused one first."""
    paths = [own_cache / "shards" / name for name in ("b/2.tar", "a/1.tar", "b/1.tar", "a/2.tar")]
    for age, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (age, age))
    (own_cache / "shards/a/manifest.parquet").write_bytes(bytes(5000))
    return paths


@pytest.mark.parametrize(
    ("limit", "num_bytes", "num_left"),
    [
        ("", 10**9, 4),
        ("5e-6", 1000, 4),
        ("5e-6", 1001, 3),
        ("3e-6", 0, 3),
        ("3e-6", 1000, 2),
        ("1e-6", 2000, 0),
    ],
)
def test_the_copies_that_were_used_longest_ago_go_first(
    copies: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    num_bytes: int,
    num_left: int,
) -> None:
    monkeypatch.setenv("TIMEBALANCE_CACHE_GB", limit)
    make_room(num_bytes)
    assert [path for path in copies if path.exists()] == copies[4 - num_left :]
    assert (copies[1].parent / "manifest.parquet").exists()


def test_a_copy_that_was_used_again_stays(
    copies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMEBALANCE_CACHE_GB", "1e-6")
    note_use(copies[0])
    make_room(0)
    assert [path for path in copies if path.exists()] == copies[:1]


@pytest.mark.parametrize("limit", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused_at_once(
    videos: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    ingest(from_folder(videos), "memory://limit/set", recipe=Recipe(codec="copy"))
    monkeypatch.setenv("TIMEBALANCE_CACHE_GB", limit)
    message = fault_of(read_manifest, "memory://limit/set")
    assert "TIMEBALANCE_CACHE_GB must be a positive number" in message


@pytest.fixture
def remote(url: str, videos: Path) -> Manifest:
    ingest(from_folder(videos), url, recipe=Recipe(codec="copy"), shard_bytes=1)
    return read_manifest(url)


def test_all_videos_are_read_within_the_limit(
    remote: Manifest, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shard holds one video, and the cache has room for the largest two."""
    sizes = sorted(shard.num_bytes for shard in read_dataset_json(remote.url or "").shards)
    limit = sizes[-1] + sizes[-2]
    monkeypatch.setenv("TIMEBALANCE_CACHE_GB", str(limit / 1e9))
    assert len(sizes) > 3
    with ShardReader(remote) as reader:
        for _ in range(2):
            for row in range(len(remote)):
                assert len(reader.read(row)) == remote.video(row).size
                assert sum(path.stat().st_size for path in own_cache.rglob("*.tar")) <= limit
                # A removed file that is still open would take its space all the same.
                assert not [path for path in _open_files() if path.endswith(".tar (deleted)")]


def _open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return [os.readlink(link) for link in folder.iterdir() if link.is_symlink()]
