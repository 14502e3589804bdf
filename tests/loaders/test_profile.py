"""The times of a stage are those that it took, and the verdict names the slowest one."""

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from operator import call
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest
import torch

from loaders import Profile, open_loader, profile
from loaders.engines.engine import WorkTimes
from loaders.engines.fused import render_video
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tests.loaders.first_code import run_first
from tests.loaders.test_handover import DALI

_SLOW_S = 0.05
_HERE: dict[str, Any] = {"batch_size": 1, "num_workers": 1, "in_process": True}
_BESIDE = _HERE | {"in_process": False}


def _slow(function: Any, augment_s: float = 0.0) -> Any:
    def slower(*arguments: Any) -> Any:
        time.sleep(_SLOW_S)
        result = function(*arguments)
        return result + augment_s if augment_s else result

    return slower


@pytest.mark.parametrize("stage", ["read", "decode", "augment", "consumer"])
def test_what_makes_a_stage_slow_counts_for_it(
    stage: str, numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stage in ("decode", "augment"):
        slow = _slow(render_video.render_video, augment_s=_SLOW_S if stage == "augment" else 0.0)
        monkeypatch.setattr(render_video, "render_video", slow)
    if stage == "read":
        monkeypatch.setattr(ShardReader, "read_frames", _slow(ShardReader.read_frames))
    loader = open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=1)
    step = (lambda _: time.sleep(_SLOW_S)) if stage == "consumer" else None
    profile = loader.profile(num_batches=4, step=step)
    assert profile.num_videos == 8
    assert 0 <= profile.wait_s <= profile.wall_s
    assert profile.trainer_kept > 0
    # Lower bounds only: other programs make a stage slower, but nothing makes a sleep shorter.
    if stage == "consumer":
        assert profile.wall_s - profile.wait_s >= 4 * _SLOW_S
    else:
        assert getattr(profile.times, f"{stage}_s") >= 8 * _SLOW_S


@pytest.mark.parametrize("stage", ["read", "decode", "augment"])
def test_the_slowest_stage_is_named(stage: str) -> None:
    seconds = {"read_s": 1.0, "decode_s": 1.0, "augment_s": 1.0, f"{stage}_s": 1.1}
    profile = Profile(num_videos=8, wall_s=4.0, wait_s=1.0, times=WorkTimes(**seconds))
    assert profile.verdict == f"{stage}-bound"
    assert f"\n{stage}-bound: {profile.advice}" in str(profile)


def test_a_consumer_that_never_waits_is_named() -> None:
    times = WorkTimes(read_s=9.0, decode_s=9.0, augment_s=9.0)
    profile = Profile(num_videos=8, wall_s=4.0, wait_s=0.1, times=times)
    assert profile.verdict == "consumer-bound"
    assert "the loader keeps up" in str(profile)


_HOLDING = """
import ctypes, os
from loaders.engines.fused import render_video

video = render_video.render_video
held, go_on = (os.open(pipe, os.O_RDWR) for pipe in ({held!r}, {go_on!r}))
keeping = ctypes.PyDLL(None)  # a call of its functions keeps the interpreter

def holding(*arguments):
    os.write(held, b" ")
    keeping.read(go_on, ctypes.create_string_buffer(1), 1)
    return video(*arguments)

render_video.render_video = holding
"""


def test_a_training_launches_while_the_loader_process_keeps_its_interpreter(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loader process gets its interpreter back after the launches. In this process that would
    be a deadlock."""
    held, go_on = tmp_path / "held", tmp_path / "go on"
    for pipe in (held, go_on):
        os.mkfifo(pipe)
    run_first(_HOLDING.format(held=str(held), go_on=str(go_on)), tmp_path / "code", monkeypatch)
    a, b = torch.rand(2, 64, 64)
    with (
        open_loader(numbered_shards, tiny_views, engine="fused", **_BESIDE) as loader,
        closing(loader.stream()) as batches,
        ThreadPoolExecutor(1) as threads,
        held.open("r+b", buffering=0) as reader,
        go_on.open("r+b", buffering=0) as writer,
    ):
        taken = threads.submit(next, batches)
        reader.read(1)
        for _ in range(100):
            _ = a @ b
        assert not taken.done()
        writer.write(bytes(4096))  # for this video and those after it
        assert taken.result().valid.all()


def test_no_launch_comes_through_while_a_thread_here_keeps_the_interpreter(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    render, launched, holds = render_video.render_video, [], []
    hold = partial(ctypes.PyDLL(None).usleep, 50_000)

    def holding(*arguments: Any) -> float:
        # One C function calls all three, so no other thread runs between two of them.
        before, _, after = map(call, (launched.__len__, hold, launched.__len__))
        holds.append(after - before)
        return render(*arguments)

    monkeypatch.setattr(render_video, "render_video", holding)
    a, b = torch.rand(2, 64, 64)
    with (
        open_loader(numbered_shards, tiny_views, engine="fused", **_HERE) as loader,
        closing(loader.stream()) as batches,
        ThreadPoolExecutor(1) as threads,
    ):
        taken = threads.submit(next, batches)
        while not taken.done():
            launched.append(a @ b)
    assert holds
    assert not any(holds)


def test_the_launches_beside_the_loader_are_compared_with_those_alone(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered, render, counts = Semaphore(0), render_video.render_video, [62.0, 100.0]

    def noted(*arguments: Any) -> float:
        rendered.release()
        return render(*arguments)

    def launches_per_s() -> float:
        if len(counts) == 1:  # beside the loader
            while rendered.acquire(blocking=False):
                pass
            for _ in range(10):  # more than it makes before somebody takes a batch
                rendered.acquire()
        return counts.pop()

    monkeypatch.setattr(render_video, "render_video", noted)
    monkeypatch.setattr(profile, "_launches_per_s", launches_per_s)
    with open_loader(numbered_shards, tiny_views, engine="fused", **_HERE) as loader:
        assert loader.profile(num_batches=1).trainer_kept == 0.62


@pytest.mark.parametrize("in_process", [True, False], ids=["threads here", "loader process"])
@pytest.mark.parametrize(
    ("kept", "said", "advised"), [(1.0, "100%", False), (1.3, "100%", False), (0.62, "62%", True)]
)
def test_what_the_loader_costs_a_training_is_said(
    kept: float, said: str, advised: bool, in_process: bool
) -> None:
    """A loader that has a process of its own cannot move to one."""
    profile = Profile(
        num_videos=8,
        wall_s=4.0,
        wait_s=0.1,
        times=WorkTimes(),
        trainer_kept=kept,
        in_process=in_process,
    )
    assert f"keeps {said} of its launches" in str(profile)
    assert ("fewer workers" in str(profile)) == advised
    assert ("in_process=False" in str(profile)) == (advised and in_process)


@pytest.mark.parametrize("options", [_HERE, _BESIDE], ids=["threads here", "loader process"])
@pytest.mark.parametrize("engine", ["fused", DALI])
def test_a_profile_knows_where_the_threads_are(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    engine: str,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(profile, "_launches_per_s", lambda: 1.0)
    options = options | {"engine": engine, "device": "cpu"}
    with open_loader(numbered_shards, tiny_views, **options) as loader:
        assert loader.profile(num_batches=1).in_process == options["in_process"]


_SLOWER = """
import time
from loaders.engines.dali import reading
from loaders.engines.fused import render_video
from shards.reader import ShardReader

def slow(function):
    def slower(*arguments):
        time.sleep({seconds})
        return function(*arguments)
    return slower

ShardReader.read_frames = slow(ShardReader.read_frames)
reading.rgb_pictures = slow(reading.rgb_pictures)
slow_video = slow(slow(render_video.render_video))
render_video.render_video = lambda *arguments: slow_video(*arguments) + {seconds}
"""


@pytest.mark.parametrize("engine", ["fused", DALI])
def test_the_times_of_the_loader_process_come_with_the_batch(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    engine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_first(_SLOWER.format(seconds=_SLOW_S), tmp_path, monkeypatch)
    options = _BESIDE | {"engine": engine, "device": "cpu", "batch_size": 2}
    with open_loader(numbered_shards, tiny_views, **options) as loader:
        times = next(iter(loader)).times
    assert times.read_s >= 2 * _SLOW_S
    assert times.decode_s >= 2 * _SLOW_S
    if engine == "fused":  # DALI augments in this process
        assert times.augment_s >= 2 * _SLOW_S
