"""A training whose loader process is killed says so, and goes on to the same weights."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from tb.training.metrics import METRICS, read_metrics
from tb.weights.checkpoint import CHECKPOINT, file_digest
from tests.loaders.hand_over import Point
from tests.processes import loader_process
from tests.tb.commands import process, start
from tests.tb.conftest import QUICK

STEPS = 60
KINDS = (*("training", "loader process") * 3, *Point)
# A step takes a millisecond or two, and so a training could end before it is killed.
_SLOW_STEPS = """
import time
from tb.training.metrics import MetricsLog

written = MetricsLog.write

def write(self, row):
    written(self, row)
    time.sleep(0.02)

MetricsLog.write = write
"""


def _words(manifest: Manifest, out: Path, place: str) -> list[str]:
    settings = (
        *QUICK,
        f"machine.in_process={place}",
        "machine.log_steps=1",
        "machine.checkpoint_steps=5",
        f"pretrain.optim={{steps: {STEPS}, batch_size: 4}}",
    )
    words = ["train", "invariant", "--preset", "demo"]
    words += ["--shards", str(manifest.root), "--out", str(out)]
    return words + [part for setting in settings for part in ("--set", setting)]


@pytest.mark.slow
@pytest.mark.timeout(900)  # fourteen trainings start
def test_kills_of_the_training_and_of_its_loader_change_no_weight(
    manifest: Manifest, tmp_path: Path
) -> None:
    drawn = random.Random(5)
    expected, found = tmp_path / "threads", tmp_path / "process"
    assert process(*_words(manifest, expected, "true")).returncode == 0
    words = _words(manifest, found, "false")
    log = found / "invariant" / METRICS
    for number, kind in enumerate(KINDS):
        folder = tmp_path / f"killed-{number}"
        folder.mkdir()
        first = kind.code(drawn.randint(1, 8)) if isinstance(kind, Point) else _SLOW_STEPS
        training = start(*words, folder=folder, first=first)
        assert training.pid is not None
        if not isinstance(kind, Point):
            until = (number + 1) * STEPS // (len(KINDS) + 1)
            while len(read_metrics(log)) < until and training.is_alive():
                time.sleep(0.01)
            time.sleep(drawn.random() * 0.05)
            loader = loader_process(training.pid)
            assert loader is not None
            os.kill(training.pid if kind == "training" else loader, signal.SIGKILL)
        training.join()
        errors = (folder / "stderr").read_text()
        if kind == "training" or (isinstance(kind, Point) and not kind.kills_child):
            assert training.exitcode == -signal.SIGKILL, errors
        else:
            assert training.exitcode == 2, errors
            assert "was killed by SIGKILL" in errors
            assert "Traceback" not in errors
        while loader_process(training.pid) is not None:
            time.sleep(0.05)
    assert process(*words).returncode == 0
    one, other = (folder / "invariant" / CHECKPOINT for folder in (expected, found))
    assert file_digest(one) == file_digest(other)
