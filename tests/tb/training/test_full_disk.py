"""A disk that fills up during training: one line, nothing half-written, and an exact resume."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from tb.training.metrics import METRICS, read_metrics
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tests.tb.commands import process
from tests.tb.conftest import QUICK

_PAGE_BYTES = 4096
# Trains on a small disk, keeps what is there, makes room, and trains again.
_ON_SMALL_DISK = """
mount -t tmpfs -o size=$1 tmpfs "$2" && shift
cd "$1"/.. && folder=$1 && shift
"$@" && exit 1
test $? = 2 || exit 1
cp -r "$folder" at-the-end-of-space
mount -o remount,size=50m "$folder"
"$@" || exit 1
cp -r "$folder" in-the-end
"""


def training(shards: Path | str, work: Path, *settings: str) -> list[str]:
    words = ["train", "supervised", "--shards", str(shards), "--out", str(work)]
    words += ["--preset", "demo"]
    return words + [word for setting in (*QUICK, *settings) for word in ("--set", setting)]


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def the_error(done: "subprocess.CompletedProcess[str]") -> str:
    """The error; there is no traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line


def test_a_checkpoint_without_room_leaves_the_last_one(
    manifest: Manifest, finished: Path, tmp_path: Path
) -> None:
    whole = finished / "supervised" / CHECKPOINT
    first_bytes = whole.stat().st_size // 2  # the first one has no moments of Adam's
    words = training(manifest.root, tmp_path, "machine.tensorboard=false")
    done = process(*words, most_bytes=first_bytes)
    assert done.returncode == 2, done.stderr
    assert f"{tmp_path}: File too large; free some space, then run the same" in the_error(done)
    path = tmp_path / "supervised" / CHECKPOINT
    assert load_checkpoint(path)["step"] == 0
    assert not list(tmp_path.rglob("*.unfinished"))
    assert process(*words).returncode == 0
    assert file_digest(path) == file_digest(whole)


def has_mounts() -> bool:
    try:
        return run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["settings", "checkpoint", "log", "events"])
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(
    manifest: Manifest, finished: Path, tmp_path: Path, kind: str
) -> None:
    if not has_mounts():
        pytest.skip("no user namespaces here, so no small disk")
    whole, work = finished / "supervised" / CHECKPOINT, tmp_path / "work"
    work.mkdir()
    settings = [f"machine.tensorboard={str(kind == 'events').lower()}"]
    words = [sys.executable, "-m", "tb.cli", *training(manifest.root, work, *settings)]
    pages = {"settings": 1, "checkpoint": 100, "log": room_for_start(manifest, tmp_path)}
    pages["events"] = pages["log"] + 1
    size = str(pages[kind] * _PAGE_BYTES)
    done = run(["unshare", "-Urm", "sh", "-c", _ON_SMALL_DISK, "sh", size, str(work), *words])
    assert done.returncode == 0, done.stderr
    assert f"{work}: No space left on device; free some space" in the_error(done)
    before, after = tmp_path / "at-the-end-of-space", tmp_path / "in-the-end"
    assert not list(before.rglob("*.unfinished"))
    if kind != "settings":
        assert load_checkpoint(before / "supervised" / CHECKPOINT)["step"] == 0
    assert file_digest(after / "supervised" / CHECKPOINT) == file_digest(whole)
    rows = read_metrics(after / "supervised" / METRICS)
    assert [row["step"] for row in rows] == list(range(6))


def room_for_start(manifest: Manifest, tmp_path: Path) -> int:
    """The pages of what a run writes before its first step: the settings and a checkpoint."""
    start = tmp_path / "start"
    process(*training(manifest.root, start, "machine.tensorboard=false"), most_bytes=300_000)
    sizes = [path.stat().st_size for path in start.rglob("*") if path.is_file()]
    return sum(-(-size // _PAGE_BYTES) for size in sizes)
