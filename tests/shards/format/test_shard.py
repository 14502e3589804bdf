"""The shards are plain WebDataset: `tarfile`, the stock library and the reader see the same."""

import gc
import hashlib
import json
import tarfile
import warnings
from pathlib import Path

import pytest
import webdataset

from shards.files.local_store import LocalStore
from shards.format.dataset_json import read_dataset_json
from shards.format.manifest import Manifest
from shards.format.shard import ShardWriter, is_shard_file, is_shard_name, shard_name


def test_offsets_are_those_that_tarfile_finds(manifest: Manifest) -> None:
    members = {}
    for name in manifest.shard_names:
        with tarfile.open(manifest.root / name) as tar:
            for member in tar:
                members[name, member.name] = (member.offset_data, member.size)
    assert len(members) == 2 * len(manifest)
    for index in range(len(manifest)):
        video = manifest.video(index)
        assert members[video.shard, f"{video.key}.mp4"] == (video.offset, video.size)


def test_tar_headers_tell_nothing_of_this_machine(manifest: Manifest) -> None:
    for name in manifest.shard_names:
        with tarfile.open(manifest.root / name) as tar:
            for member in tar:
                traces = (member.mtime, member.uid, member.gid, member.uname, member.gname)
                assert traces == (0, 0, 0, "", "")
                assert not member.pax_headers


def test_rows_are_in_shard_order(manifest: Manifest) -> None:
    rows = [manifest.video(index) for index in range(len(manifest))]
    assert [(v.shard, v.offset) for v in rows] == sorted((v.shard, v.offset) for v in rows)


def test_the_stock_webdataset_library_reads_them(manifest: Manifest) -> None:
    urls = [str(manifest.root / name) for name in manifest.shard_names]
    with warnings.catch_warnings():
        # The library leaves closing its last file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
        gc.collect()
    assert [sample["__key__"] for sample in samples] == manifest.keys
    for index, sample in enumerate(samples):
        video, content = manifest.video(index), json.loads(sample["json"])
        assert hashlib.sha256(sample["mp4"]).hexdigest() == video.sha256
        assert content["class"] == manifest.classes[video.label]
        assert content["fps"] == [video.fps.numerator, video.fps.denominator]
        assert content["splits"] == list(video.splits)
        for name in ("key", "label", "group", "num_frames", "height", "width", "codec", "source"):
            assert content[name] == getattr(video, name)


def test_dataset_json_knows_every_shard(manifest: Manifest) -> None:
    about = read_dataset_json(manifest.root)
    assert [shard.name for shard in about.shards] == list(manifest.shard_names)
    for shard in about.shards:
        data = (manifest.root / shard.name).read_bytes()
        assert shard.num_bytes == len(data)
        assert shard.sha256 == hashlib.sha256(data).hexdigest()
    assert about.counts == ({"train": len(manifest)},)
    assert about.classes == manifest.classes


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
def test_a_shard_takes_a_video_only_if_there_is_room(
    manifest: Manifest, tmp_path: Path, size: int
) -> None:
    store = LocalStore(tmp_path)
    store.scratch.mkdir()
    videos = [manifest.video(index) for index in range(3)]

    def written(max_bytes: int) -> int:
        """How many of three videos of `size` bytes a shard takes."""
        writer = ShardWriter(store, 0, manifest.classes, max_bytes)
        stored = [writer.add(video, "mp4", bytes(size), None) for video in videos]
        writer.publish()
        return sum(video is not None for video in stored)

    assert written(1 << 20) == 3
    with tarfile.open(tmp_path / "shard-000000.tar") as tar:
        members = tar.getmembers()
    # Without the end of the tar, which is two empty blocks and the padding of the last record.
    num_bytes = members[-1].offset_data + 512 * -(-members[-1].size // 512)
    assert written(num_bytes) == 3
    assert written(num_bytes - 1) == 2
    assert written(1) == 1  # a shard is never empty


def test_a_writer_that_is_closed_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.scratch.mkdir()
    ShardWriter(store, 0, (), 1).close()
    assert list(store.scratch.iterdir()) == []


@pytest.mark.parametrize("number", ["٣", "²", "", "0" * 13, "-1", "1\n"])
def test_only_ascii_digits_make_the_name_of_a_shard(number: str) -> None:
    assert not is_shard_name(f"shard-{number}.tar")
    assert not is_shard_file(f"shard-{number}.idx")
    assert is_shard_name(shard_name(10**12 - 1))
    assert is_shard_file("shard-000000.idx")
    assert not is_shard_file("shard-000000.txt")
