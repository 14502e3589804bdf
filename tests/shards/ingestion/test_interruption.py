"""After kill -9 at any moment, the same call gives the same bytes and leaves nothing else."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.make_videos import make_video
from tests.shards import damage

_RUN = """
import sys
from shards.sources.folder import from_folder
from shards.ingestion.ingest import ingest
ingest(from_folder(sys.argv[1]), sys.argv[2], workers=2, shard_bytes=80_000)
"""


_RUN_AND_TELL = """
import json, pathlib, sys
from shards.sources.folder import from_folder
from shards.errors import InputError
from shards.ingestion.ingest import ingest
from shards.format.skipped import SKIPPED_NAME
try:
    report = ingest(from_folder(sys.argv[1]), sys.argv[2], workers=1)
    entry = json.loads(pathlib.Path(sys.argv[2], SKIPPED_NAME).read_text())
    print(f"{report.num_videos} {report.num_skipped}: {entry['reason']}")
except InputError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for index in range(30):
        make_video(root / f"class{index % 3}" / f"{index}.mp4", num_frames=40, seed=index)
    return root


@contextmanager
def _running(root: Path, out: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """An ingestion in another process; killed with -9 at the end of the block if it still runs."""
    process = subprocess.Popen([sys.executable, "-c", _RUN, str(root), str(out)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", ready: Callable[[], bool]) -> None:
    while not ready():
        assert process.poll() is None
        time.sleep(0.002)


def _has_open(pid: int, name: str) -> bool:
    try:
        return any(os.readlink(path).endswith(name) for path in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:  # a file was closed, or the process has ended
        return False


def _num_shards(out: Path) -> int:
    return len(list(out.glob("*.tar")))


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _children(pid: int) -> list[int]:
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in lists for child in children.split()]


def test_killed_again_and_again_it_ends_with_the_same_bytes(many: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    report = ingest(from_folder(many), whole, shard_bytes=80_000)
    assert report.num_shards >= 6
    moments = random.Random(0)
    num_killed = 0
    for num_finished in (1, 1, 3, 5):
        with _running(many, out) as process:
            while process.poll() is None and _num_shards(out) < num_finished:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.05))
        num_killed += process.returncode == -signal.SIGKILL
    assert num_killed >= 3
    with _running(many, out) as process:
        assert process.wait(timeout=120) == 0
    assert _tree(out) == _tree(whole)
    assert not any(path.is_dir() for path in out.iterdir())


def test_what_was_finished_is_not_done_again(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _running(many, out) as process:
        _wait(process, lambda: _num_shards(out) >= 3)
    before = {path: path.stat().st_mtime_ns for path in sorted(out.glob("*.tar"))[:2]}
    report = ingest(from_folder(many), out, shard_bytes=80_000)
    assert report.num_resumed > 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_workers_end_with_their_parent(many: Path, tmp_path: Path) -> None:
    with _running(many, tmp_path / "out") as process:
        _wait(process, lambda: len(_children(process.pid)) == 2)
        workers = _children(process.pid)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_worker_costs_nothing(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _running(many, out) as process:
        _wait(process, lambda: _num_shards(out) >= 1)
        os.kill(_children(process.pid)[0], signal.SIGKILL)
        assert process.wait(timeout=120) == 0
    expected = ingest(from_folder(many), tmp_path / "whole", shard_bytes=80_000)
    again = ingest(from_folder(many), out, shard_bytes=80_000)
    assert again.already_done
    assert again.digest == expected.digest


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (signal.SIGSEGV, "2 1: crashed the decoder twice (SIGSEGV)"),
        (
            signal.SIGKILL,
            "endless.mkv: the worker process ended twice while working on it (SIGKILL",
        ),
    ],
)
def test_a_worker_that_dies_twice_on_one_video(
    tmp_path: Path, how: signal.Signals, expected: str
) -> None:
    for index in range(2):
        make_video(tmp_path / "set" / "a" / f"{index}.mp4", num_frames=4)
    damage.endless(tmp_path / "set" / "a" / "endless.mkv")
    command = [sys.executable, "-c", _RUN_AND_TELL, str(tmp_path / "set"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        killed: list[int] = []
        while len(killed) < 2:
            for worker in set(_children(process.pid)) - set(killed):
                if _has_open(worker, "endless.mkv"):
                    os.kill(worker, how)
                    killed.append(worker)
            time.sleep(0.01)
        output = process.communicate(timeout=60)[0]
    assert expected in output


def test_two_at_once_do_not_write_into_one_folder(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _running(many, out) as process:
        _wait(process, (out / ".ingest" / "settings.json").exists)
        with pytest.raises(InputError, match="another `tb shard` is writing there"):
            ingest(from_folder(many), out, shard_bytes=80_000)
        assert process.wait(timeout=120) == 0


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, bytes]]:
    """Five videos, an ingestion of them that was interrupted after four shards, and a whole one."""
    top = tmp_path_factory.mktemp("few")
    for index in range(5):
        make_video(top / "set" / "a" / f"{index}.mp4", num_frames=4, seed=index)

    def interrupt(num_done: int, total: int, key: str) -> None:
        if num_done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(from_folder(top / "set"), top / "begun", shard_bytes=1, progress=interrupt)
    ingest(from_folder(top / "set"), top / "whole", shard_bytes=1)
    return top / "set", top / "begun", _tree(top / "whole")


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("content", [b"", b'{"next_pos', b"[]", b"\0\xff"])
def test_a_note_that_is_cut_off_is_ignored(
    few: tuple[Path, Path, dict[str, bytes]], tmp_path: Path, index: int, content: bytes
) -> None:
    root, begun, whole = few
    out = Path(shutil.copytree(begun, tmp_path / "out"))
    (out / ".ingest" / f"shard-{index:06d}.tar.json").write_bytes(content)
    report = ingest(from_folder(root), out, shard_bytes=1, workers=1)
    assert report.num_resumed == index
    assert _tree(out) == whole


@pytest.mark.parametrize("content", [b"", b'{"finger', b"[1]", b"\0\xff"])
def test_settings_that_are_cut_off_are_an_error(
    few: tuple[Path, Path, dict[str, bytes]], tmp_path: Path, content: bytes
) -> None:
    root, begun, _ = few
    out = Path(shutil.copytree(begun, tmp_path / "out"))
    (out / ".ingest" / "settings.json").write_bytes(content)
    with pytest.raises(
        InputError, match=r"out/\.ingest/settings\.json: unreadable .* delete"
    ) as caught:
        ingest(from_folder(root), out, shard_bytes=1)
    assert "\n" not in str(caught.value)
    assert _tree(out) == _tree(begun)


def test_another_recipe_does_not_continue_an_interrupted_run(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _running(many, out) as process:
        _wait(process, (out / ".ingest" / "settings.json").exists)
    with pytest.raises(InputError, match="other videos, recipe, seed or library versions"):
        ingest(from_folder(many), out, shard_bytes=80_001)
