"""The times of a stage are those that it took, and the verdict names the slowest one."""

import time
from pathlib import Path
from typing import Any

import pytest

from loaders import Profile, open_loader
from loaders.engines.engine import StageTimes
from loaders.engines.fused import render
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tests.loaders.first_code import run_first

_SLOW_S = 0.05


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
        slow = _slow(render.render_video, augment_s=_SLOW_S if stage == "augment" else 0.0)
        monkeypatch.setattr(render, "render_video", slow)
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
        assert getattr(profile.stages, f"{stage}_s") >= 8 * _SLOW_S


@pytest.mark.parametrize("stage", ["read", "decode", "augment"])
def test_the_slowest_stage_is_named(stage: str) -> None:
    seconds = {"read_s": 1.0, "decode_s": 1.0, "augment_s": 1.0, f"{stage}_s": 1.1}
    profile = Profile(num_videos=8, wall_s=4.0, wait_s=1.0, stages=StageTimes(**seconds))
    assert profile.verdict == f"{stage}-bound"
    assert f"\n{stage}-bound: {profile.advice}" in str(profile)


def test_a_consumer_that_never_waits_is_named() -> None:
    stages = StageTimes(read_s=9.0, decode_s=9.0, augment_s=9.0)
    profile = Profile(num_videos=8, wall_s=4.0, wait_s=0.1, stages=stages)
    assert profile.verdict == "consumer-bound"
    assert "the loader keeps up" in str(profile)


_HOLDING = """
import loaders.engines.fused.render
render = loaders.engines.fused.render.render_video

def holding(*arguments):
    sum(range(10_000_000))  # one call in C, which does not let go of the interpreter
    return render(*arguments)

loaders.engines.fused.render.render_video = holding
"""


def test_a_training_loses_launches_only_to_threads_that_share_its_interpreter(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same loader in both places; each video holds its interpreter about as long as is counted.

    Between two videos a launch or a few are possible, so the shares differ by far more than what
    other programs on the machine take away.
    """

    def kept(in_process: bool) -> float:
        options = {"batch_size": 1, "num_workers": 1, "in_process": in_process}
        with open_loader(numbered_shards, tiny_views, engine="fused", **options) as loader:
            return loader.profile(num_batches=1).trainer_kept

    run_first(_HOLDING, tmp_path, monkeypatch)
    beside = kept(in_process=False)
    monkeypatch.setattr(render, "render_video", render.render_video)  # restores it
    exec(_HOLDING, {})
    here = kept(in_process=True)
    assert here < 0.2
    assert here < beside / 5


@pytest.mark.parametrize(
    ("kept", "said", "advised"), [(1.0, "100%", False), (1.3, "100%", False), (0.62, "62%", True)]
)
def test_what_the_loader_costs_a_training_is_said(kept: float, said: str, advised: bool) -> None:
    profile = Profile(num_videos=8, wall_s=4.0, wait_s=0.1, stages=StageTimes(), trainer_kept=kept)
    assert f"keeps {said} of its launches" in str(profile)
    assert ("in_process=False" in str(profile)) == advised
