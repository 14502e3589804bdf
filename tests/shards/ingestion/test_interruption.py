"""After kill -9 at any moment, the same call gives the same bytes and leaves nothing else."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.forks import running
from tests.make_videos import make_video
from tests.processes import is_alive, wait_until_dead
from tests.shards.helpers import children_of, files_in


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for index in range(30):
        make_video(root / f"class{index % 3}" / f"{index}.mp4", num_frames=40, seed=index)
    return root


def _ingest(root: Path, out: Path) -> None:
    ingest(from_folder(root), out, workers=2, shard_bytes=80_000)


def _wait(process: BaseProcess, ready: Callable[[], bool]) -> None:
    while not ready():
        assert process.exitcode is None
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
    with running(_ingest, many, out) as process:
        process.join(120)
        assert process.exitcode == 0
    assert files_in(out) == files_in(whole)
    assert not any(path.is_dir() for path in out.iterdir())


def _is_killed(many: Path, out: Path, num_finished: int, delay_s: float) -> bool:
    """Whether an ingestion still runs a moment after it has finished so many shards."""
    with running(_ingest, many, out) as process:
        while process.exitcode is None and _num_shards(out) < num_finished:
            time.sleep(0.002)
        time.sleep(delay_s)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_what_was_finished_is_not_done_again(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(_ingest, many, out) as process:
        _wait(process, lambda: _num_shards(out) >= 3)
    before = {path: path.stat().st_mtime_ns for path in sorted(out.glob("*.tar"))[:2]}
    report = ingest(from_folder(many), out, shard_bytes=80_000)
    assert report.num_resumed > 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_workers_end_with_their_parent(many: Path, tmp_path: Path) -> None:
    with running(_ingest, many, tmp_path / "out") as process:
        _wait(process, lambda: len(children_of(process.pid)) == 2)
        workers = children_of(process.pid)
    wait_until_dead(*workers)
    assert not any(map(is_alive, workers))


def test_a_killed_worker_costs_nothing(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(_ingest, many, out) as process:
        _wait(process, lambda: _num_shards(out) >= 1)
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
        process.join(120)
        assert process.exitcode == 0
    expected = ingest(from_folder(many), tmp_path / "whole", shard_bytes=80_000)
    again = ingest(from_folder(many), out, shard_bytes=80_000)
    assert again.already_done
    assert again.digest == expected.digest


def test_two_at_once_do_not_write_into_one_folder(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(_ingest, many, out) as process:
        _wait(process, (out / ".ingest" / "settings.json").exists)
        with pytest.raises(InputError, match="another `tb shard` is writing there"):
            ingest(from_folder(many), out, shard_bytes=80_000)
        process.join(120)
        assert process.exitcode == 0


def test_another_recipe_does_not_continue_an_interrupted_run(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(_ingest, many, out) as process:
        _wait(process, (out / ".ingest" / "settings.json").exists)
    with pytest.raises(InputError, match="other videos, recipe, seed or library versions"):
        ingest(from_folder(many), out, shard_bytes=80_001)
