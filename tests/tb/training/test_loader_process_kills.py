"""A training whose loader process is killed says so, and goes on to the same weights."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from tb.training.metrics import METRICS, read_metrics
from tb.weights.checkpoint import CHECKPOINT, file_digest
from tests.loaders.first_code import first_code
from tests.loaders.hand_over import Point
from tests.processes import loader_process
from tests.tb.conftest import QUICK

STEPS = 60
KINDS = (*("training", "loader process") * 3, *Point)


def _command(manifest: Manifest, out: Path, place: str) -> list[str]:
    settings = (
        *QUICK,
        f"machine.in_process={place}",
        "machine.log_steps=1",
        "machine.checkpoint_steps=5",
        f"pretrain.optim={{steps: {STEPS}, batch_size: 4}}",
    )
    command = [sys.executable, "-m", "tb.cli", "train", "invariant", "--preset", "demo"]
    command += ["--shards", str(manifest.root), "--out", str(out)]
    return command + [part for setting in settings for part in ("--set", setting)]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # fourteen programs start
def test_kills_of_the_training_and_of_its_loader_change_no_weight(
    manifest: Manifest, tmp_path: Path
) -> None:
    drawn = random.Random(5)
    expected, found = tmp_path / "threads", tmp_path / "process"
    subprocess.run(_command(manifest, expected, "true"), check=True, capture_output=True)
    command = _command(manifest, found, "false")
    log = found / "invariant" / METRICS
    for number, kind in enumerate(KINDS):
        code = kind.code(drawn.randint(1, 8)) if isinstance(kind, Point) else ""
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=first_code(code, tmp_path / f"first-{number}"),
        )
        if not isinstance(kind, Point):
            until = (number + 1) * STEPS // (len(KINDS) + 1)
            while len(read_metrics(log)) < until and process.poll() is None:
                time.sleep(0.01)
            time.sleep(drawn.random() * 0.05)
            loader = loader_process(process.pid)
            assert loader is not None
            os.kill(process.pid if kind == "training" else loader, signal.SIGKILL)
        _, errors = process.communicate()
        if kind == "training" or (isinstance(kind, Point) and not kind.kills_child):
            assert process.returncode == -signal.SIGKILL, errors
        else:
            assert process.returncode == 2, errors
            assert "was killed by SIGKILL" in errors
            assert "Traceback" not in errors
        while loader_process(process.pid) is not None:
            time.sleep(0.05)
    subprocess.run(command, check=True, capture_output=True)
    one, other = (folder / "invariant" / CHECKPOINT for folder in (expected, found))
    assert file_digest(one) == file_digest(other)
