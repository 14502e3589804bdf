"""kill -9 at 50 random moments of ingestion, training, evaluation and reproduction.

Every time, the same call again ends with what an undisturbed one leaves.
"""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.files.publish import UNFINISHED
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.load_config import load_config
from tb.evaluation.evaluate import evaluate
from tb.stage_kinds import StageKind
from tb.tables.grid import run_grid
from tb.training.metrics import METRICS, read_metrics
from tb.weights.checkpoint import CHECKPOINT
from tb.workflow.run import run_stage
from tests.forks import FORKS
from tests.tb.conftest import QUICK
from tests.tb.tables.test_grid import grid_of

SEED = 2023
_KILLS_OF_A_FOLDER = 5

Act = Callable[[Path, Path], object]
"""(data, out) -> nothing that counts."""


def shard(videos: Path, out: Path) -> None:
    ingest(from_folder(videos, min_per_class=1), out, shard_bytes=80_000, workers=2)


def train(shards: Path, out: Path) -> None:
    settings = (*QUICK, "machine.tensorboard=false", "student.optim.steps=30")
    config = load_config("demo", (*settings, "machine.log_steps=1"))
    run_stage(StageKind.SUPERVISED, read_manifest(shards), config, out)


def measure(shards: Path, out: Path) -> None:
    config = load_config("demo", (*QUICK, "evaluation.num_clips=10", "evaluation.split=train"))
    evaluate(StageKind.SUPERVISED, read_manifest(shards), config, out)


def reproduce(shards: Path, out: Path) -> None:
    run_grid(grid_of("supervised", "pseudo-label"), read_manifest(shards), out)


# What depends on the pace: times, and how often a split was read if a kill cut a reading short.
_PASSING = {"num_readings", "seconds", "step_s", "data_wait_s", "videos_per_s"}
# Records of the pace, and what a killed writer leaves for an hour.
_PASSING_FILES = ("evaluations.jsonl", "events.out.tfevents*", "*.lock", f"*{UNFINISHED}")


def lasting(value: Any) -> Any:
    """A JSON value without what depends on the pace."""
    if isinstance(value, dict):
        return {name: lasting(x) for name, x in value.items() if name not in _PASSING}
    return [lasting(x) for x in value] if isinstance(value, list) else value


def left_in(folder: Path) -> dict[str, Any]:
    """The lasting content of all files, by name."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if not path.is_file() or any(path.match(pattern) for pattern in _PASSING_FILES):
            continue
        name = str(path.relative_to(folder))
        if path.name == METRICS:
            found[name] = lasting(read_metrics(path))
        else:
            is_json = path.suffix == ".json"
            found[name] = lasting(json.loads(path.read_text())) if is_json else path.read_bytes()
    return found


def start(act: Act, data: Path, out: Path) -> Any:
    # A forked process has its imports, so the kills do not meet imports alone.
    process = FORKS.Process(target=act, args=(data, out), daemon=False)
    process.start()
    return process


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("act", "num_kills"), [(shard, 15), (train, 15), (measure, 10), (reproduce, 10)]
)
def test_killed_at_random_moments_it_ends_as_if_undisturbed(
    manifest: Manifest, finished: Path, tmp_path: Path, act: Act, num_kills: int
) -> None:
    data = manifest.root.parent / "videos" if act is shard else manifest.root

    def begin(name: str) -> Path:
        out = tmp_path / name
        if act is measure:
            (out / StageKind.SUPERVISED).mkdir(parents=True)
            shutil.copy(finished / StageKind.SUPERVISED / CHECKPOINT, out / StageKind.SUPERVISED)
        return out

    def complete(out: Path) -> dict[str, Any]:
        process = start(act, data, out)
        process.join()
        assert process.exitcode == 0
        return left_in(out)

    complete(begin("warm"))
    began_s = time.monotonic()
    wanted = complete(begin("undisturbed"))
    whole_s = time.monotonic() - began_s
    moments, num_killed, num_folders = random.Random(SEED), 0, 0
    while num_killed < num_kills:
        out = begin(f"killed-{num_folders}")
        for _ in range(min(_KILLS_OF_A_FOLDER, num_kills - num_killed)):
            process = start(act, data, out)
            process.join(moments.uniform(0, whole_s))
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            num_killed += process.exitcode != 0
        assert complete(out) == wanted
        num_folders += 1
    print(f"{act.__name__}: {num_killed} kills in {num_folders} folders, seed {SEED}")
