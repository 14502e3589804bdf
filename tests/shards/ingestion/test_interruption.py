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
from tests.processes import is_alive, wait_until_dead
from tests.shards.helpers import children_of, files_in

_RUN = """
import sys
from shards.sources.folder import from_folder
from shards.ingestion.ingest import ingest
ingest(from_folder(sys.argv[1]), sys.argv[2], workers=2, shard_bytes=80_000)
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


def _num_shards(out: Path) -> int:
    return len(list(out.glob("*.tar")))


def test_killed_again_and_again_it_ends_with_the_same_bytes(many: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    report = ingest(from_folder(many), whole, shard_bytes=80_000)
    assert report.num_shards >= 6
    moments = random.Random(0)
    for num_finished in (1, 1, 3, 5):
        # If it was done before the kill, everything begins again.
        while not _is_killed(many, out, num_finished, moments.uniform(0, 0.05)):
            shutil.rmtree(out)
    with _running(many, out) as process:
        assert process.wait(timeout=120) == 0
    assert files_in(out) == files_in(whole)
    assert not any(path.is_dir() for path in out.iterdir())


def _is_killed(many: Path, out: Path, num_finished: int, delay_s: float) -> bool:
    """Whether an ingestion still runs a moment after it has finished so many shards."""
    with _running(many, out) as process:
        while process.poll() is None and _num_shards(out) < num_finished:
            time.sleep(0.002)
        time.sleep(delay_s)
    return process.returncode == -signal.SIGKILL


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
        _wait(process, lambda: len(children_of(process.pid)) == 2)
        workers = children_of(process.pid)
    wait_until_dead(*workers)
    assert not any(map(is_alive, workers))


def test_a_killed_worker_costs_nothing(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _running(many, out) as process:
        _wait(process, lambda: _num_shards(out) >= 1)
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
        assert process.wait(timeout=120) == 0
    expected = ingest(from_folder(many), tmp_path / "whole", shard_bytes=80_000)
    again = ingest(from_folder(many), out, shard_bytes=80_000)
    assert again.already_done
    assert again.digest == expected.digest


def test_two_at_once_do_not_write_into_one_folder(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _running(many, out) as process:
        _wait(process, (out / ".ingest" / "settings.json").exists)
        with pytest.raises(InputError, match="another `tb shard` is writing there"):
            ingest(from_folder(many), out, shard_bytes=80_000)
        assert process.wait(timeout=120) == 0


def test_another_recipe_does_not_continue_an_interrupted_run(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _running(many, out) as process:
        _wait(process, (out / ".ingest" / "settings.json").exists)
    with pytest.raises(InputError, match="other videos, recipe, seed or library versions"):
        ingest(from_folder(many), out, shard_bytes=80_001)
