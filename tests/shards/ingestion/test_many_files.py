"""As many files as UCF101 has, killed with -9 at twenty random moments: each is stored once."""

import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from shards.encode.recipe import Recipe
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.ucf101 import from_ucf101
from shards.verification import verify
from tests.forks import FORKS
from tests.make_videos import make_video

_NUM_VIDEOS, _NUM_CLASSES, _NUM_KILLS = 13_320, 101, 20
_SHARD_BYTES = 400_000
_SIDE_PX = 64
# Nothing is encoded, because the number of files is what is tested here.
_RECIPE = Recipe(codec="copy")


def _store(root: Path, out: Path) -> None:
    ingest(from_ucf101(root), out, recipe=_RECIPE, shard_bytes=_SHARD_BYTES)


def _start(root: Path, out: Path) -> BaseProcess:
    process = FORKS.Process(target=_store, args=(root, out))
    process.start()
    return process


def _make_set(root: Path) -> Path:
    """Links to forty videos of 1 to 3 frames, under UCF101's names."""
    templates = [
        make_video(
            root / "templates" / f"{index}.avi",
            num_frames=1 + index % 3,
            height=_SIDE_PX,
            width=_SIDE_PX,
            codec="mpeg4",
            seed=index,
        )
        for index in range(40)
    ]
    for index in range(_NUM_VIDEOS):
        name = "Class" + chr(65 + index % _NUM_CLASSES // 26) + chr(65 + index % _NUM_CLASSES % 26)
        place = index // _NUM_CLASSES
        path = root / "set" / name / f"v_{name}_g{place % 25 + 1:02d}_c{place // 25 + 1:02d}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(templates[index % len(templates)], path)
    return root / "set"


def _num_shards(out: Path) -> int:
    return len(list(out.glob("*.tar")))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_twenty_times(tmp_path: Path) -> None:
    root = _make_set(tmp_path)
    whole, out = tmp_path / "whole", tmp_path / "out"
    report = ingest(from_ucf101(root), whole, recipe=_RECIPE, shard_bytes=_SHARD_BYTES)
    assert (report.num_videos, report.num_skipped) == (_NUM_VIDEOS, 0)
    moments = random.Random(0)
    thresholds = sorted(moments.choices(range(report.num_shards), k=_NUM_KILLS))
    for threshold in thresholds:
        process = _start(root, out)
        while process.is_alive() and _num_shards(out) < threshold:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = _start(root, out)
    last.join()
    assert last.exitcode == 0
    assert verify(out) == []
    assert read_manifest(out).digest == report.digest
    assert sorted(path.name for path in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    for path in out.iterdir():
        assert path.read_bytes() == (whole / path.name).read_bytes()
