"""The verdict names the stage that a test makes slow."""

import time
from typing import Any

import pytest

from loaders import open_loader
from loaders.engines.fused import render
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from shards.reader import ShardReader

# Far more than the other stages take, also while other programs run.
_SLOW_S = 0.2


def _slow(function: Any, augment_s: float | None = None) -> Any:
    def slower(*arguments: Any) -> Any:
        time.sleep(_SLOW_S)
        result = function(*arguments)
        return result if augment_s is None else result + augment_s

    return slower


@pytest.mark.parametrize("stage", ["read", "decode", "augment", "consumer"])
def test_the_slow_stage_is_named(
    stage: str, numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stage in ("decode", "augment"):
        slow = _slow(render.render_video, augment_s=_SLOW_S if stage == "augment" else 0.0)
        monkeypatch.setattr(render, "render_video", slow)
    if stage == "read":
        monkeypatch.setattr(ShardReader, "read_frames", _slow(ShardReader.read_frames))
    loader = open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=1)
    step = (lambda _: time.sleep(5 * _SLOW_S)) if stage == "consumer" else None
    profile = loader.profile(num_batches=4, step=step)
    assert profile.verdict == f"{stage}-bound"
    assert profile.num_videos == 8
    assert 0 <= profile.wait_s <= profile.wall_s
    assert f"{stage}-bound: " in str(profile)
