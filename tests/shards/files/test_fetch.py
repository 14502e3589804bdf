"""A damaged copy is fetched again; a damaged original is never used."""

from pathlib import Path

from shards.files.store import open_store
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from shards.verification import verify
from tests.shards.helpers import fault_of


def test_a_damaged_copy_is_fetched_again(url: str, videos: Path, own_cache: Path) -> None:
    ingest(from_folder(videos), url)
    remote = read_manifest(url)
    with ShardReader(remote) as reader:
        expected = reader.read(0)
    (copy,) = own_cache.rglob("*.tar")
    data = bytearray(copy.read_bytes())
    data[remote.video(0).offset + 100] ^= 1
    copy.write_bytes(data)
    with ShardReader(remote) as reader:
        assert reader.read(0) == expected
    copy.write_bytes(data[:1000])
    with ShardReader(remote) as reader:
        assert reader.read(0) == expected
    assert not list(own_cache.rglob("*.unfinished"))


def test_a_damaged_original_is_never_used(url: str, videos: Path, own_cache: Path) -> None:
    ingest(from_folder(videos), url)
    name = "shard-000000.tar"
    data = bytearray(open_store(url).read(name) or b"")
    data[5000] ^= 1
    open_store(url).put_bytes(name, bytes(data))
    with ShardReader(read_manifest(url)) as reader:
        message = fault_of(reader.read, 0)
    problem = (
        f"{url}/{name}: not the bytes that were written (sha256 differs); run"
        " `tb shard` again with another --out"
    )
    assert problem in message
    assert not list(own_cache.rglob("*.tar"))
    assert verify(url) == [problem]
