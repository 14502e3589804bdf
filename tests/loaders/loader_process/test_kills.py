"""Fifty kills of a training or of its loader process, most of them while a batch is handed over."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import pytest
import torch

from loaders import LoaderError, ViewSpec, open_loader
from loaders.loader_process.process_producer import ProcessProducer
from shards.format.manifest import Manifest
from tests.loaders.first_code import first_code, run_first
from tests.loaders.hand_over import Point
from tests.processes import ring_files, wait_until_dead

_NUM_BATCHES, _NUM_KILLS = 600, 50
_KINDS = ("training", "loader process", *Point)
_TRAINING = """
import hashlib, json, os, pathlib, sys
import torch
from loaders import open_loader
from loaders.plan.stage_views import pretrain
shards, folder, num_batches = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
model = torch.nn.Linear(6, 2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
lines, checkpoint = [], folder / "checkpoint.pt"
if checkpoint.exists():
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    lines = state["lines"]
loader = open_loader(shards, pretrain(num_frames=4, size_px=16, num_slices=2), in_process=False,
                     batch_size=2, num_workers=2)
print(loader.producer.pid, flush=True)
for batch in loader.stream(len(lines)):
    if len(lines) == num_batches:
        break
    views = batch.views["long"]
    digest = hashlib.sha256(views.contiguous().numpy().tobytes()).hexdigest()
    means = views.mean(dim=(-3, -2, -1)).flatten(1)
    loss = torch.nn.functional.cross_entropy(model(means), batch.labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    lines.append(json.dumps([batch.keys, digest]))
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lines": lines}
    torch.save(state, folder / "unfinished")
    os.replace(folder / "unfinished", checkpoint)
    print(len(lines), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)  # fifty programs start, and a slow machine takes 20 s for each
def test_after_50_kills_a_run_has_the_same_batches_and_weights(
    numbered_shards: Manifest, tmp_path: Path
) -> None:
    """Each kill comes some batches later, at a random moment or at a point of the hand-over."""
    drawn = random.Random(17)
    expected, found = tmp_path / "expected", tmp_path / "found"
    for folder in (expected, found):
        folder.mkdir()
    arguments = [sys.executable, "-c", _TRAINING, str(numbered_shards.root)]
    subprocess.run(
        [*arguments, str(expected), str(_NUM_BATCHES)], check=True, stdout=subprocess.DEVNULL
    )
    shared_memory = set(os.listdir("/dev/shm"))
    for number in range(_NUM_KILLS):
        kind = _KINDS[number % len(_KINDS)]
        after = drawn.randint(1, 8)
        code = kind.code(after) if isinstance(kind, Point) else ""
        process = subprocess.Popen(
            [*arguments, str(found), str(_NUM_BATCHES)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=first_code(code, tmp_path / f"first-{number}"),
        )
        assert process.stdout is not None
        with process.stdout as lines:
            loader = int(lines.readline())
            if not isinstance(kind, Point):
                list(islice(lines, after))
                time.sleep(drawn.random() * 0.01)
                os.kill(process.pid if kind == "training" else loader, signal.SIGKILL)
            process.wait()
        is_child = kind.kills_child if isinstance(kind, Point) else kind == "loader process"
        assert process.returncode == (1 if is_child else -signal.SIGKILL), kind
        wait_until_dead(loader)
    assert set(os.listdir("/dev/shm")) <= shared_memory
    subprocess.run(
        [*arguments, str(found), str(_NUM_BATCHES)], check=True, stdout=subprocess.DEVNULL
    )
    ours, theirs = (
        torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (found, expected)
    )
    assert ours["lines"] == theirs["lines"]
    assert len(ours["lines"]) == _NUM_BATCHES
    for name, weights in theirs["model"].items():
        assert torch.equal(ours["model"][name], weights)


@pytest.mark.parametrize("point", [point for point in Point if point.kills_child])
def test_a_training_that_goes_on_keeps_nothing_of_a_dead_loader_process(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    point: Point,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at the third batch. The next loader goes on with it, in a new process."""
    options = {"batch_size": 2, "num_workers": 2}
    with open_loader(numbered_shards, tiny_views, in_process=True, **options) as loader:
        expected = [batch.views["long"].clone() for batch in islice(loader.stream(), 6)]
    before = _held()
    run_first(point.code(3), tmp_path, monkeypatch)
    found: list[torch.Tensor] = []
    with open_loader(numbered_shards, tiny_views, in_process=False, **options) as loader:
        assert isinstance(loader.producer, ProcessProducer)
        pid = loader.producer.pid
        assert pid is not None
        with pytest.raises(LoaderError, match=rf"\({pid}\) was killed by SIGKILL"):
            found.extend(batch.views["long"].clone() for batch in loader.stream())
    assert len(found) <= 3
    wait_until_dead(pid)
    run_first("", tmp_path, monkeypatch)
    with open_loader(numbered_shards, tiny_views, in_process=False, **options) as loader:
        rest = islice(loader.stream(len(found)), 6 - len(found))
        found += [batch.views["long"].clone() for batch in rest]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    del loader, rest
    assert _held() == before


def _held() -> tuple[set[str], int, dict[int, int], set[str]]:
    """Threads, the number of descriptors, rings, and what is in /dev/shm."""
    gc.collect()
    return (
        {thread.name for thread in threading.enumerate()},
        len(os.listdir("/proc/self/fd")),
        ring_files(),
        set(os.listdir("/dev/shm")),
    )
