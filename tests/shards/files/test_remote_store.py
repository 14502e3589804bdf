"""Shards on S3 (a real server on loopback) and behind other URLs: equal bytes, checked copies."""

import errno
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from typer.testing import CliRunner

from shards.errors import InputError
from shards.files.local_store import LocalStore
from shards.files.store import open_store
from shards.format.dataset_json import DATASET_NAME
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from shards.verification import verify
from tb.cli.data import data_app
from tb.cli.shard import shard_app
from tests.make_videos import make_video
from tests.shards.helpers import fault_of

_SHARD_BYTES = 100_000  # as the fixture `manifest` has it


def _files(url: str) -> dict[str, bytes]:
    files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def test_remote_shards_are_the_local_ones(url: str, videos: Path, manifest: Manifest) -> None:
    report = ingest(from_folder(videos), url, shard_bytes=_SHARD_BYTES)
    assert report.digest == manifest.digest
    local = {path.name: path.read_bytes() for path in manifest.root.iterdir()}
    assert _files(url) == local
    again = ingest(from_folder(videos), url, shard_bytes=_SHARD_BYTES)
    assert again.already_done
    assert again.digest == report.digest


def test_videos_are_added_to_remote_shards_and_the_state_before_stays(
    url: str, videos: Path, tmp_path: Path, own_cache: Path
) -> None:
    first = ingest(from_folder(videos), url, shard_bytes=_SHARD_BYTES)
    make_video(tmp_path / "more" / "spin" / "new.mp4", num_frames=8, seed=50)
    more = from_folder(tmp_path / "more", min_per_class=1)
    second = ingest(more, url, shard_bytes=_SHARD_BYTES, append=True)
    assert (second.num_added, second.num_videos) == (1, 11)
    earlier = f"{url}@{first.digest[:8]}"
    assert set(read_manifest(url).keys) - set(read_manifest(earlier).keys) == {"new"}
    assert verify(url) == verify(earlier) == []


def test_remote_shards_read_and_verify(
    url: str, videos: Path, manifest: Manifest, own_cache: Path
) -> None:
    ingest(from_folder(videos), url, shard_bytes=_SHARD_BYTES)
    remote = read_manifest(url)
    assert not list(own_cache.rglob("*.tar"))
    with ShardReader(remote) as reader, ShardReader(manifest) as expected:
        assert reader.read(0) == expected.read(0)
        assert [path.name for path in own_cache.rglob("*.tar")] == [remote.video(0).shard]
        for index in range(len(remote)):
            assert reader.read(index) == expected.read(index)
    assert verify(url, decode=True) == []
    # pathlib turns two slashes into one; options of type Path must work too.
    assert len(read_manifest(Path(url))) == len(manifest)


def test_verifying_looks_at_the_original_not_at_the_copy(
    url: str, videos: Path, own_cache: Path
) -> None:
    ingest(from_folder(videos), url, shard_bytes=_SHARD_BYTES)
    assert verify(url) == []
    first, second, *_ = sorted(own_cache.rglob("*.tar"))
    good = second.read_bytes()
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    assert verify(url) == []
    open_store(url).remove(first.name)
    open_store(url).put_bytes(second.name, good[:5000] + b"x" + good[5001:])
    assert verify(url) == [
        f"{url}/{first.name}: no such file; run `tb shard` again with another --out",
        f"{url}/{second.name}: not the bytes that were written (sha256 differs); run `tb shard`"
        " again with another --out",
    ]
    # Training can go on with the copy.
    assert second.read_bytes() == good
    assert not list(own_cache.rglob("*.unfinished"))


def test_an_interrupted_remote_ingestion_goes_on(
    url: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    for index in range(12):
        make_video(root / "a" / f"{index}.mp4", num_frames=20, seed=index)

    def interrupt(num_done: int, total: int, key: str) -> None:
        if num_done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(from_folder(root), url, shard_bytes=60_000, progress=interrupt)
    begun = _files(url)
    assert ".ingest/settings.json" in begun
    assert DATASET_NAME not in begun
    with pytest.raises(InputError, match="other videos, recipe, seed"):
        ingest(from_folder(root), url, shard_bytes=60_000, seed=5)
    report = ingest(from_folder(root), url, shard_bytes=60_000)
    assert report.num_resumed > 0
    whole = ingest(from_folder(root), tmp_path / "whole", shard_bytes=60_000)
    assert report.digest == whole.digest
    assert _files(url) == {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert not list((own_cache / "unfinished").glob("*/*"))


def test_the_command_line_takes_urls(url: str, videos: Path) -> None:
    run = CliRunner()
    made = run.invoke(shard_app, ["folder", "--root", str(videos), "--out", url])
    assert made.exit_code == 0, made.output
    assert f"shards  {url}" in made.output
    for command in ("info", "ls", "verify"):
        assert run.invoke(data_app, [command, url]).exit_code == 0


def test_what_cannot_be_reached_is_one_line(tmp_path: Path, videos: Path) -> None:
    assert "not a shards folder" in fault_of(read_manifest, "memory://nowhere/at/all")
    message = fault_of(read_manifest, "bogus://bucket/set")
    assert message.startswith("bogus://bucket/set: Protocol not known")
    assert "check the address" in message


def test_a_server_that_is_not_there_is_one_line(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    message = fault_of(ingest, from_folder(videos), "s3://bucket/set")
    assert message.startswith("s3://bucket/set: ")
    assert "check the address, the credentials and the network" in message


def test_a_file_url_is_a_local_folder(videos: Path, manifest: Manifest, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/set"
    assert isinstance(open_store(url), LocalStore)
    ingest(from_folder(videos), url, shard_bytes=_SHARD_BYTES)
    assert {p.name: p.read_bytes() for p in (tmp_path / "set").iterdir()} == {
        p.name: p.read_bytes() for p in manifest.root.iterdir()
    }
    assert verify(url) == []
    opened = read_manifest(url)
    assert (opened.root, opened.url) == (tmp_path / "set", "")
    assert "no such folder" in fault_of(read_manifest, f"{url}/nowhere")
    assert "holds the videos themselves" in fault_of(
        ingest, from_folder(videos), f"file://{videos}"
    )


class _TornFiles(LocalFileSystem):
    """A server's file system, where a broken line leaves half a file."""

    protocol = "torn"
    writes_left = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        if path.startswith("torn://"):
            path = "/" + path.removeprefix("torn://")
        return str(LocalFileSystem._strip_protocol(path))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        _TornFiles.writes_left -= 1
        if _TornFiles.writes_left >= 0:
            Path(path).write_bytes(value)
            return
        Path(path).write_bytes(value[: len(value) // 2])
        raise OSError(errno.EPIPE, "the line broke")

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())


def test_a_broken_line_to_a_file_server_leaves_no_half_files(tmp_path: Path) -> None:
    fsspec.register_implementation("torn", _TornFiles, clobber=True)
    for index in range(3):
        make_video(tmp_path / "set" / "a" / f"{index}.mp4", num_frames=4, seed=index)
    whole = ingest(from_folder(tmp_path / "set"), tmp_path / "whole", shard_bytes=1)
    expected = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    out, url = tmp_path / "out", f"torn://{tmp_path}/out"
    for num_writes in count(1):
        _TornFiles.writes_left = num_writes
        with suppress(InputError):
            report = ingest(from_folder(tmp_path / "set"), url, shard_bytes=1, workers=1)
        files = [p for p in out.iterdir() if p.is_file() and p.suffix != ".unfinished"]
        seen = {p.name: p.read_bytes() for p in files}
        assert seen.items() <= expected.items()
        if _TornFiles.writes_left >= 0:
            break
    assert num_writes > 3
    assert report.digest == whole.digest
    assert seen == expected
    assert not list(out.glob("*.unfinished"))
