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
from tests.processes import loader_process, wait_until_dead
from tests.tb.conftest import QUICK

STEPS = 60
NUM_KILLS = 6


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
def test_kills_of_the_training_and_of_its_loader_change_no_weight(
    manifest: Manifest, tmp_path: Path
) -> None:
    drawn = random.Random(5)
    expected, found = tmp_path / "threads", tmp_path / "process"
    subprocess.run(_command(manifest, expected, "true"), check=True, capture_output=True)
    command = _command(manifest, found, "false")
    log = found / "invariant" / METRICS
    for kill in range(NUM_KILLS):
        until = (kill + 1) * STEPS // (NUM_KILLS + 1)
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while len(read_metrics(log)) < until and process.poll() is None:
            time.sleep(0.01)
        time.sleep(drawn.random() * 0.05)
        loader = loader_process(process.pid)
        assert loader is not None
        os.kill(loader if kill % 2 else process.pid, signal.SIGKILL)
        _, errors = process.communicate()
        if kill % 2:
            assert process.returncode == 2, errors
            assert "was killed by SIGKILL" in errors
            assert "Traceback" not in errors
        wait_until_dead(loader)
    subprocess.run(command, check=True, capture_output=True)
    one, other = (folder / "invariant" / CHECKPOINT for folder in (expected, found))
    assert file_digest(one) == file_digest(other)
