"""A full disk and the like are named as such; they are never a video's fault."""

import os
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from shards.files.machine_errors import MachineError
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder

_READ = """
import resource, sys
from shards.files.machine_errors import MachineError
from shards.format.manifest import read_manifest
from shards.reader import ShardReader
from shards.verification import verify
manifest = read_manifest(sys.argv[1])
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
with ShardReader(manifest) as reader:
    for call in (lambda: reader.read(0), lambda: verify(sys.argv[1])):
        try:
            call()
        except MachineError as error:
            print(error)
"""
_ON_SMALL_DISK = 'mount -t tmpfs -o size=64k tmpfs "$TIMEBALANCE_CACHE" && exec "$@"'


def _has_mounts() -> bool:
    try:
        command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize("url", ["s3"], indirect=True)
@pytest.mark.parametrize(
    ("where", "reason"),
    [("disk", "No space left on device"), ("limit", "File too large")],
)
def test_a_cache_without_space_is_named(
    url: str, videos: Path, own_cache: Path, where: str, reason: str
) -> None:
    if where == "disk" and not _has_mounts():
        pytest.skip("no user namespaces here, so no small disk")
    ingest(from_folder(videos), url)
    own_cache.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _READ, url]
    if where == "disk":
        command = ["unshare", "-Urm", "sh", "-c", _ON_SMALL_DISK, "sh", *command]
    else:
        command.append("65536")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = read_manifest(url).root
    assert done.stdout.splitlines() == 2 * [
        f"{folder}: {reason}; free some space, or set TIMEBALANCE_CACHE to a folder on another disk"
    ]
    assert not [path for path in own_cache.rglob("*.tar*") if path.suffix != ".lock"]


@pytest.mark.parametrize("url", ["memory"], indirect=True)
@pytest.mark.parametrize("cache", [True, False])  # packet indices are kept without the cache too
def test_a_cache_that_cannot_be_written_is_named(url: str, videos: Path, cache: bool) -> None:
    ingest(from_folder(videos), url)
    remote = read_manifest(url)
    shutil.rmtree(remote.root)
    remote.root.touch()
    advice = "set TIMEBALANCE_CACHE to a folder for copies"
    with (
        ShardReader(remote, cache=cache) as reader,
        pytest.raises(MachineError, match=f"{remote.root}: Not a directory; {advice}"),
    ):
        reader.read_window(0, 0, 1)


def test_too_few_open_files_are_named(manifest: Manifest) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    with ShardReader(manifest) as reader:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        try:
            with suppress(OSError):
                while True:
                    opened.append(os.open(os.devnull, os.O_RDONLY))
            for read in (reader.read, lambda row: reader.read_window(row, 0, 1)):
                with pytest.raises(MachineError, match=r"Too many open files; allow more"):
                    read(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for descriptor in opened:
                os.close(descriptor)
        assert len(reader.read(0)) == manifest.sizes[0]
