"""The shards are plain WebDataset: `tarfile`, the stock library and the reader see the same."""

import gc
import hashlib
import json
import tarfile
import warnings
from pathlib import Path

import webdataset

from shards.files.local_store import LocalStore
from shards.format.dataset_json import read_dataset_json
from shards.format.manifest import Manifest
from shards.format.shard import ShardWriter, member_bytes


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


def test_the_room_of_a_member_is_foretold(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.scratch.mkdir()
    writer = ShardWriter(store, "shard-000000.tar")
    expected = 0
    for size in (0, 1, 511, 512, 513, 5000):
        writer.add(f"key{size}", "mp4", bytes(size), b"{}")
        expected += member_bytes(size) + member_bytes(2)
        assert writer.num_bytes == expected
    writer.close()
    assert list(store.scratch.iterdir()) == []
