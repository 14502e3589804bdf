"""Fifty kills of a training or of its loader process, most of them while a batch is handed over."""

import gc
import hashlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from loaders import LoaderError, ViewSpec, open_loader
from loaders.loader_process.process_producer import ProcessProducer
from loaders.plan.stage_views import pretrain
from shards.format.manifest import Manifest
from tests.forks import FORKS
from tests.loaders.first_code import run_first, run_in_both
from tests.loaders.hand_over import Point
from tests.loaders.shared_memory import shared_memory
from tests.processes import ring_files, wait_until_dead

_NUM_BATCHES, _NUM_KILLS = 600, 50
_KINDS = ("training", "loader process", *Point)


def _train(shards: Path, folder: Path, first: str, events: "Connection[int, object]") -> None:
    """Trains up to the last batch, from the checkpoint in `folder` if there is one.

    Args:
        shards: The shards.
        folder: For the checkpoint, which has a line of each batch, and for what follows.
        first: What this process and its loader process run first.
        events: Gets the number of the loader process, and then the number of batches after each.
    """
    if first:
        run_in_both(first, folder / "first")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Linear(6, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    lines, checkpoint = [], folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        lines = state["lines"]
    views = pretrain(num_frames=4, size_px=16, num_slices=2)
    loader = open_loader(shards, views, in_process=False, batch_size=2, num_workers=2)
    assert isinstance(loader.producer, ProcessProducer)
    events.send(loader.producer.process.pid)
    for batch in islice(loader.stream(len(lines)), _NUM_BATCHES - len(lines)):
        clips = batch.views["long"]
        digest = hashlib.sha256(clips.contiguous().numpy().tobytes()).hexdigest()
        means = clips.mean(dim=(-3, -2, -1)).flatten(1)
        loss = torch.nn.functional.cross_entropy(model(means), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lines.append(json.dumps([batch.keys, digest]))
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lines": lines}
        torch.save(state, folder / "unfinished")
        os.replace(folder / "unfinished", checkpoint)
        events.send(len(lines))
    loader.close()


@contextmanager
def _training(
    shards: Path, folder: Path, first: str = ""
) -> Iterator[tuple[BaseProcess, Iterator[int]]]:
    """A training in a process of its own, and what it sends until it ends."""
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_train, args=(shards, folder, first, theirs))
    process.start()
    theirs.close()
    with ours:
        yield process, _received(ours)
    process.join()


def _received(events: "Connection[int, object]") -> Iterator[int]:
    with suppress(EOFError):
        while True:
            yield events.recv()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # fifty trainings start
def test_after_50_kills_a_run_has_the_same_batches_and_weights(
    numbered_shards: Manifest, tmp_path: Path
) -> None:
    """Each kill comes some batches later, at a random moment or at a point of the hand-over."""
    drawn = random.Random(17)
    shards, expected, found = numbered_shards.root, tmp_path / "expected", tmp_path / "found"
    for folder in (expected, found):
        folder.mkdir()
    with _training(shards, expected) as (process, events):
        assert list(events)[-1] == _NUM_BATCHES
    before = shared_memory()
    for number in range(_NUM_KILLS):
        kind = _KINDS[number % len(_KINDS)]
        after = drawn.randint(1, 8)
        first = kind.code(after) if isinstance(kind, Point) else ""
        with _training(shards, found, first) as (process, events):
            loader = next(events)
            if not isinstance(kind, Point):
                list(islice(events, after))
                time.sleep(drawn.random() * 0.01)
                assert process.pid is not None
                os.kill(process.pid if kind == "training" else loader, signal.SIGKILL)
            list(events)
        is_child = kind.kills_child if isinstance(kind, Point) else kind == "loader process"
        assert process.exitcode == (1 if is_child else -signal.SIGKILL), kind
        wait_until_dead(loader)
    assert shared_memory() <= before
    with _training(shards, found) as (process, events):
        list(events)
    assert process.exitcode == 0
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
        pid = loader.producer.process.pid
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
        shared_memory(),
    )
