"""Fifty kills of a training or of its loader process change no batch."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from tests.processes import wait_until_dead

_TRAINING = """
import hashlib, json, os, pathlib, sys
from loaders import open_loader
from loaders.plan.stage_views import pretrain
shards, log, num_batches = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
loader = open_loader(shards, pretrain(num_frames=4, size_px=16, num_slices=2), in_process=False,
                     batch_size=2, num_workers=2)
print(loader.producer.pid, flush=True)
with log.open("a") as file:
    for number, batch in enumerate(loader.stream(len(lines)), len(lines)):
        if number == num_batches:
            break
        digest = hashlib.sha256(batch.views["long"].contiguous().numpy().tobytes()).hexdigest()
        file.write(json.dumps([number, batch.keys, digest]) + "\\n")
        file.flush()
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # fifty programs start
def test_50_kills_of_either_process_change_no_batch(
    numbered_shards: Manifest, tmp_path: Path
) -> None:
    """Killed at a random moment, then started again where the log ends, until all batches came."""
    num_batches, num_kills = 400, 50
    drawn = random.Random(17)
    arguments = [sys.executable, "-c", _TRAINING, str(numbered_shards.root)]
    expected = tmp_path / "expected.jsonl"
    subprocess.run([*arguments, str(expected), str(num_batches)], check=True)
    found = tmp_path / "found.jsonl"
    found.touch()
    for kill in range(num_kills):
        until = str((kill + 1) * num_batches // (num_kills + 1))
        process = subprocess.Popen(
            [*arguments, str(found), str(num_batches)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout:
            loader = int(process.stdout.readline())
        while len(found.read_text().splitlines()) < int(until) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(drawn.random() * 0.01)
        victim = (process.pid, loader)[kill % 2]
        os.kill(victim, signal.SIGKILL)
        process.wait()
        wait_until_dead(loader)
        assert process.returncode in (-signal.SIGKILL, 1, 0)
        # A line that was cut off was not handed out.
        text = found.read_text()
        found.write_text(text[: text.rfind("\n") + 1])
    subprocess.run([*arguments, str(found), str(num_batches)], check=True)
    assert found.read_text() == expected.read_text()
