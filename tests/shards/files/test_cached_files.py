"""A damaged copy is fetched again, once; a damaged original is never used, and fetched once."""

import errno
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Lock

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from shards.copies import Copies
from shards.errors import InputError
from shards.files import cached_files
from shards.files.lock import locked
from shards.files.publish import UNFINISHED
from shards.files.remote_store import OriginalError, RemoteStore
from shards.files.store import open_store
from shards.format.dataset_json import DATASET_NAME
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import packets_name
from shards.ingestion.ingest import ingest
from shards.reader import ShardError, ShardReader
from shards.sources.folder import from_folder
from shards.verification import verify
from tests.shards.helpers import fault_of

_SHARD = "shard-000000.tar"


@pytest.fixture(scope="module")
def one_shard(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos in one shard."""
    out = tmp_path_factory.mktemp("one")
    ingest(from_folder(videos), out)
    return out


@pytest.fixture
def remote(url: str, one_shard: Path) -> Manifest:
    """The same behind a URL."""
    for path in one_shard.iterdir():
        open_store(url).put_bytes(path.name, path.read_bytes())
    return read_manifest(url)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file has been requested."""
    requests: Counter[str] = Counter()
    lock, get_file = Lock(), RemoteStore.get_file

    def counted(store: RemoteStore, name: str, target: Path, max_bytes: int) -> None:
        with lock:
            requests[name] += 1
        get_file(store, name, target, max_bytes)

    monkeypatch.setattr(RemoteStore, "get_file", counted)
    return requests


def _copy_of(remote: Manifest) -> Path:
    with ShardReader(remote) as reader:
        reader.read(0)
    return remote.root / _SHARD


def _damage_original(remote: Manifest, name: str) -> None:
    store = open_store(remote.url)
    data = bytearray(store.read(name) or b"")
    data[len(data) // 2] ^= 1
    store.put_bytes(name, bytes(data))


def test_a_damaged_copy_is_fetched_again(remote: Manifest, own_cache: Path) -> None:
    with ShardReader(remote) as reader:
        expected = reader.read(0)
    (copy,) = own_cache.rglob("*.tar")
    data = bytearray(copy.read_bytes())
    data[remote.video(0).offset + 100] ^= 1
    copy.write_bytes(data)
    with ShardReader(remote) as reader:
        assert reader.read(0) == expected
    copy.write_bytes(data[:1000])
    assert remote.shard_path(_SHARD).stat().st_size == len(data)  # before anything is read
    copy.write_bytes(data[:1000])
    with ShardReader(remote) as reader:
        assert reader.read(0) == expected
    assert not list(own_cache.rglob(f"*{UNFINISHED}"))


@pytest.mark.parametrize("kind", ["shard", "packets"])
def test_eight_threads_that_meet_a_damaged_copy_fetch_it_once(
    remote: Manifest, fetched: Counter[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    copy = _copy_of(remote)
    if kind == "packets":
        copy = remote.packets_path(_SHARD)
    good = copy.read_bytes()
    copy.write_bytes(bytes(len(good)))
    all_met_it, get = Barrier(8, timeout=60), getattr(Copies, kind)

    def met(copies: Copies, name: str, *, is_damaged: bool = False) -> Path:
        if is_damaged:
            all_met_it.wait()
        path: Path = get(copies, name, is_damaged=is_damaged)
        return path

    monkeypatch.setattr(Copies, kind, met)
    fetched.clear()
    with ShardReader(remote) as reader, ThreadPoolExecutor(8) as threads:
        if kind == "shard":
            sizes = [len(data) for data in threads.map(reader.read, range(8))]
            assert sizes == remote.sizes[:8].tolist()
        else:
            windows = threads.map(lambda row: reader.read_window(row, 0, 1), range(8))
            assert all(window.byte_range.gop_frames[0] == 0 for window in windows)
    assert fetched == {copy.name: 1}
    assert copy.read_bytes() == good


def test_a_damaged_original_is_fetched_once_and_never_used(
    remote: Manifest, fetched: Counter[str], own_cache: Path
) -> None:
    _damage_original(remote, _SHARD)
    problem = (
        f"{remote.url}/{_SHARD}: not the bytes that were written (sha256 differs); run"
        " `tb shard` again with another --out"
    )
    with ShardReader(remote) as reader:
        for row in range(len(remote)):
            assert problem in fault_of(reader.read, row)
            assert problem in fault_of(reader.read_window, row, 0, 1)
    assert fetched == {_SHARD: 1, packets_name(_SHARD): 1}
    assert not list(own_cache.rglob("*.tar"))
    assert verify(remote.url) == [problem]


@pytest.mark.parametrize("more", [-1, 1])
def test_an_original_of_another_size_is_fetched_once_and_never_used(
    remote: Manifest, fetched: Counter[str], own_cache: Path, more: int
) -> None:
    """A copy of another size would count as missing, and be fetched for each read."""
    store = open_store(remote.url)
    document = json.loads(store.read(DATASET_NAME) or b"")
    size = document["shards"][0]["num_bytes"]
    document["shards"][0]["num_bytes"] = size + more
    store.put_bytes(DATASET_NAME, json.dumps(document).encode())
    rest = f"not {size + more} as the set says" if more > 0 else f"and may have {size + more}"
    problem = f"{remote.url}/{_SHARD}: has {size} bytes, {rest}"
    manifest = read_manifest(remote.url)
    with ShardReader(manifest) as reader:
        for row in range(len(manifest)):
            assert problem in fault_of(reader.read, row)
    assert fetched[_SHARD] == 1
    assert not list(own_cache.rglob("*.tar"))


def test_an_original_that_is_gone_is_requested_once(
    remote: Manifest, fetched: Counter[str]
) -> None:
    open_store(remote.url).remove(_SHARD)
    with ShardReader(remote) as reader:
        for row in range(len(remote)):
            assert "no such file" in fault_of(reader.read, row)
    assert fetched == {_SHARD: 1}


def test_a_packet_index_that_is_damaged_at_its_source_is_fetched_twice(
    remote: Manifest, fetched: Counter[str]
) -> None:
    """It has no digest of its own, so only the second copy shows that the original is damaged."""
    index = packets_name(_SHARD)
    open_store(remote.url).put_bytes(index, b"nothing")
    with ShardReader(remote) as reader:
        for row in range(len(remote)):
            assert "packet index is not a packet index" in fault_of(reader.read_window, row, 0, 1)
    assert fetched == {index: 2}


def test_a_packet_index_that_would_fill_the_disk_is_not_fetched(
    remote: Manifest, fetched: Counter[str], own_cache: Path
) -> None:
    """Here the server says at once how large it is."""
    index, limit = packets_name(_SHARD), int(remote.shard_bytes[0])
    open_store(remote.url).put_bytes(index, bytes(limit + 1))
    problem = f"{remote.url}/{index}: has {limit + 1} bytes, and may have {limit}"
    with ShardReader(remote) as reader:
        for row in range(len(remote)):
            assert problem in fault_of(reader.read_window, row, 0, 1)
    assert fetched == {index: 1}
    assert not list(own_cache.rglob(index))


@pytest.mark.parametrize(("scheme", "most_bytes"), [("memory", 4 << 20), ("local", 16 << 20)])
def test_a_server_that_sends_more_than_it_said_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, most_bytes: int
) -> None:
    """A file system that tells how much has come stops within a block, another one at the end."""
    store, target = open_store(f"{scheme}:///{tmp_path}/set"), tmp_path / "copy"
    assert isinstance(store, RemoteStore)
    (tmp_path / "set").mkdir()  # for "local"
    store.put_bytes("large", bytes(16 << 20))
    monkeypatch.setattr(RemoteStore, "size", lambda *_: 7)
    with pytest.raises(OriginalError, match="large: more than the 7 bytes arrived that the server"):
        store.get_file("large", target, 9)
    assert target.stat().st_size <= most_bytes
    fsspec.filesystem(scheme).rm(f"{tmp_path}/set", recursive=True)


def test_good_videos_of_a_damaged_copy_are_read_when_the_original_is_damaged_too(
    remote: Manifest, fetched: Counter[str]
) -> None:
    copy = _copy_of(remote)
    _damage_original(remote, _SHARD)
    video = remote.video(3)
    with copy.open("r+b") as file:
        file.seek(video.offset)
        file.write(bytes(video.size))
    fetched.clear()
    with ShardReader(remote) as reader:
        for row in range(len(remote)):
            if row == 3:
                assert "sha256 differs" in fault_of(reader.read, row)
            else:
                assert len(reader.read(row)) == remote.sizes[row]
    assert fetched == {_SHARD: 1}


class _UnsteadyLine(LocalFileSystem):
    """A server's file system that cannot be reached for a while."""

    protocol = "unsteady"
    failures_left = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        if path.startswith("unsteady://"):
            path = "/" + path.removeprefix("unsteady://")
        return str(LocalFileSystem._strip_protocol(path))

    def get_file(self, rpath: str, lpath: str, *args: object, **options: object) -> None:
        _UnsteadyLine.failures_left -= 1
        if _UnsteadyLine.failures_left >= 0:
            raise OSError(errno.ECONNRESET, "the line broke")
        Path(lpath).write_bytes(Path(rpath).read_bytes())


def test_a_network_that_comes_back_is_tried_again(manifest: Manifest) -> None:
    fsspec.register_implementation("unsteady", _UnsteadyLine, clobber=True)
    remote = read_manifest(f"unsteady:/{manifest.root}")
    with ShardReader(remote) as reader:
        _UnsteadyLine.failures_left = 1
        expected = reader.read(0)  # the second try of this read
        remote.shard_path(remote.shard_names[0]).unlink()
        reader.close()
        _UnsteadyLine.failures_left = 2
        with pytest.raises(ShardError, match="the line broke; check the address"):
            reader.read(0)
        assert reader.read(0) == expected


def test_a_copy_that_another_process_has_replaced_is_not_fetched_again(
    remote: Manifest, fetched: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _copy_of(remote)
    good = copy.read_bytes()
    copy.write_bytes(bytes(len(good)))

    @contextmanager
    def behind_another(path: Path, message: str, *, patience_s: float) -> Iterator[None]:
        fresh = copy.with_name("fresh")
        fresh.write_bytes(good)
        with locked(path, message, patience_s=patience_s):
            fresh.replace(copy)
            yield

    monkeypatch.setattr(cached_files, "locked", behind_another)
    fetched.clear()
    assert Copies(remote).shard(_SHARD, is_damaged=True).read_bytes() == good
    assert not fetched


def test_two_fetches_at_once_without_locks_do_not_collide(
    remote: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have written all their bytes before either goes on, as without a lock they may."""
    together, one_at_a_time, get_file = Barrier(2), Lock(), RemoteStore.get_file

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def at_once(store: RemoteStore, name: str, target: Path, max_bytes: int) -> None:
        with one_at_a_time:  # two readers of one file of "memory://" share a position
            get_file(store, name, target, max_bytes)
        together.wait(timeout=60)

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(RemoteStore, "get_file", at_once)
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(remote.shard_path, _SHARD) for _ in range(2)]
        paths = {job.result() for job in jobs}
    (copy,) = paths
    with ShardReader(remote) as reader:
        assert len(reader.read(0)) == remote.sizes[0]
    assert {path.name for path in copy.parent.iterdir()} == {_SHARD, f"{_SHARD}.lock"}


def test_a_network_that_fails_once_damages_no_copy(
    remote: Manifest, fetched: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, failures = RemoteStore.get_file, iter([True])

    def fails_once(store: RemoteStore, name: str, target: Path, max_bytes: int) -> None:
        if name == _SHARD and next(failures, False):
            raise InputError("the network is gone")
        counted(store, name, target, max_bytes)

    monkeypatch.setattr(RemoteStore, "get_file", fails_once)
    with ShardReader(remote) as reader:
        good = reader.read(0)
        assert fetched[_SHARD] == 1
        # The second copy is still to come for real damage.
        copy = remote.root / _SHARD
        data = bytearray(copy.read_bytes())
        data[remote.offsets[0] + 9] ^= 1
        copy.write_bytes(data)
        assert reader.read(0) == good
    assert fetched[_SHARD] == 2


def test_copies_of_two_sets_never_meet(remote: Manifest, tmp_path: Path) -> None:
    """A set from a stranger may claim the digest of another, and so their copies must be apart."""
    files = fsspec.filesystem(remote.url.partition(":")[0])
    same, other = f"{remote.url}-same", f"{remote.url}-other"
    for copy in (same, other):
        files.copy(f"{remote.url}/", f"{copy}/", recursive=True)
    about = json.loads(files.cat_file(f"{other}/{DATASET_NAME}"))
    about["shards"][0]["sha256"] = "0" * 64
    files.pipe_file(f"{other}/{DATASET_NAME}", json.dumps(about).encode())
    assert read_manifest(same).root == remote.root
    assert read_manifest(other).digest == remote.digest
    assert read_manifest(other).root != remote.root
