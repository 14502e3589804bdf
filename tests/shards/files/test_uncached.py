"""Without a cache, a read requests the bytes it needs and nothing else, and checks them."""

import re
from pathlib import Path

import pytest

from shards.files.remote_store import RemoteStore
from shards.files.store import open_store
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardError, ShardReader
from shards.sources.folder import from_folder
from tests.shards.helpers import fault_of


@pytest.fixture
def remote(url: str, videos: Path) -> Manifest:
    ingest(from_folder(videos), url)
    return read_manifest(url)


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of bytes of each request."""
    sizes = []
    request = RemoteStore.read_range

    def noted(store: RemoteStore, name: str, begin: int, num_bytes: int) -> bytes:
        sizes.append(num_bytes)
        return request(store, name, begin, num_bytes)

    monkeypatch.setattr(RemoteStore, "read_range", noted)
    return sizes


def test_only_the_bytes_that_are_shown_are_requested(
    remote: Manifest, own_cache: Path, requested: list[int]
) -> None:
    with ShardReader(remote, cache=False) as reader, ShardReader(remote) as cached:
        for row in range(len(remote)):
            last = remote.video(row).num_frames - 1
            for first, end in ((0, 0), (last, last), (2, last)):
                window = reader.read_window(row, first, end)
                assert requested.pop() == len(window.data)
            assert not list(own_cache.rglob("*.tar"))
        for row in range(len(remote)):
            assert reader.read(row) == cached.read(row)
            assert requested.pop() == remote.video(row).size
            assert reader.read_window(row, 3, 5) == cached.read_window(row, 3, 5)
    assert len(requested) == len(remote)


def test_a_damaged_original_is_an_error_with_a_name(remote: Manifest) -> None:
    name, video = remote.shard_names[0], remote.video(0)
    place = re.escape(f"{video.key} in {remote.url}/{name}: ")
    store = open_store(str(remote.url))
    data = bytearray(store.read(name) or b"")
    data[video.offset + 100] ^= 1  # in the first GOP
    store.put_bytes(name, bytes(data))
    with ShardReader(remote, cache=False) as reader:
        for read in (
            lambda: reader.read(0),
            lambda: reader.read_window(0, 0, video.num_frames - 1),
        ):
            with pytest.raises(ShardError, match=rf"^{place}.* that were written"):
                read()
        store.remove(name)
        with pytest.raises(ShardError, match=rf"^{place}"):
            reader.read(0)


def test_local_shards_have_no_cache(manifest: Manifest) -> None:
    assert "not remote: leave cache out" in fault_of(ShardReader, manifest, cache=False)
