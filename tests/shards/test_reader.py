"""The reader gives the bytes that `tarfile` finds, and names a shard that is damaged.

If a file of a remote set is damaged, it fetches only that file again.
"""

import os
import tarfile
from pathlib import Path

import fsspec
import pytest

from shards.files.remote_store import RemoteStore
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import packets_name
from shards.reader import ShardError, ShardReader
from tests.loaders.columns import without_index
from tests.shards.helpers import fault_of


def _shard(manifest: Manifest, index: int) -> Path:
    return manifest.root / manifest.video(index).shard


def test_the_reader_gives_the_same_bytes(manifest: Manifest) -> None:
    with ShardReader(manifest) as reader:
        for index in reversed(range(len(manifest))):
            video = manifest.video(index)
            with tarfile.open(_shard(manifest, index)) as tar:
                member = tar.extractfile(f"{video.key}.mp4")
                assert member is not None
                assert reader.read(index) == member.read()


def test_a_window_is_one_read_of_its_own_bytes(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    with ShardReader(manifest) as reader:
        window = reader.read_window(3, 17, 19)
        assert window.byte_range.gop_frames == (16,)
        assert reads == [len(window.data)]
        assert len(window.data) < manifest.sizes[3] / 2


def test_a_damaged_or_missing_shard_is_named_by_the_reader(
    manifest: Manifest, tmp_path: Path
) -> None:
    copy = Manifest(
        root=tmp_path,
        name=manifest.name,
        classes=manifest.classes,
        table=manifest.table,
        digest=manifest.digest,
    )
    video = manifest.video(0)
    data = bytearray(_shard(manifest, 0).read_bytes())
    with ShardReader(copy) as reader:
        with pytest.raises(ShardError, match=f"{video.key} in .*{video.shard}: No such file"):
            reader.read(0)
        (tmp_path / video.shard).write_bytes(data[: video.offset + 10])
        with pytest.raises(ShardError, match="bytes too early"):
            reader.read(0)
        reader.close()
        data[video.offset + 5] ^= 1
        (tmp_path / video.shard).write_bytes(data)
        with pytest.raises(ShardError, match="sha256 differs"):
            reader.read(0)


@pytest.fixture
def remote(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Manifest, list[str]]:
    """The shards behind a URL, and a list of the files that have been fetched from there."""
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/reader"
    files = fsspec.filesystem("memory")
    for path in manifest.root.iterdir():
        if path.is_file():
            files.pipe_file(f"/{tmp_path.name}/reader/{path.name}", path.read_bytes())
    fetched: list[str] = []
    get_file = RemoteStore.get_file

    def counted(store: RemoteStore, name: str, target: Path, max_bytes: int) -> None:
        fetched.append(name)
        get_file(store, name, target, max_bytes)

    monkeypatch.setattr(RemoteStore, "get_file", counted)
    return read_manifest(url), fetched


def test_only_the_file_that_is_damaged_is_fetched_again(
    remote: tuple[Manifest, list[str]],
) -> None:
    manifest, fetched = remote
    video = manifest.video(0)
    index = packets_name(video.shard)
    with ShardReader(manifest) as reader:
        expected = reader.read_window(0, 0, 3)
    assert sorted(fetched) == sorted([index, video.shard])
    for name in (index, video.shard):
        fetched.clear()
        copy = manifest.root / name
        data = bytearray(copy.read_bytes())
        if name == video.shard:
            data[video.offset : video.offset + video.size] = bytes(video.size)
        else:
            data = data[: len(data) // 2]
        copy.write_bytes(data)
        with ShardReader(manifest) as reader:
            assert reader.read_window(0, 0, 3) == expected
        assert fetched == [name]


def test_a_file_that_is_damaged_at_its_source_is_fetched_twice(
    remote: tuple[Manifest, list[str]],
) -> None:
    manifest, fetched = remote
    index = packets_name(manifest.video(0).shard)
    files = fsspec.filesystem("memory")
    files.pipe_file(manifest.url.removeprefix("memory:/") + f"/{index}", b"nothing")
    with (
        ShardReader(manifest) as reader,
        pytest.raises(ShardError, match="packet index is not a packet index"),
    ):
        reader.read_window(0, 0, 3)
    assert fetched == [index, index]


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (3, 2), (0, 10**6), (10**6, 10**6)])
def test_a_window_of_frames_that_are_not_there_is_named(
    manifest: Manifest, first: int, last: int
) -> None:
    video = manifest.video(1)
    with ShardReader(manifest) as reader:
        message = fault_of(reader.read_window, 1, first, last)
    there = f"{video.key}: has frames 0 to {video.num_frames - 1}"
    assert message == f"{there}, not {first} to {last}"


def test_a_window_of_a_video_without_an_index_is_named(manifest: Manifest) -> None:
    with ShardReader(without_index(manifest)) as reader:
        assert "has no packet index; use read_frames" in fault_of(reader.read_window, 0, 0, 1)
