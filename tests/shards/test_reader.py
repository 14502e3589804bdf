"""The reader gives the bytes that `tarfile` finds, and names a shard that is damaged."""

import tarfile
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from shards.reader import ShardError, ShardReader


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
