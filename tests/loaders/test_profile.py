"""The verdict names what is slow, when something is made slow on purpose."""

import time
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from loaders import EpochDataset
from loaders.engines.choice import ENGINES
from loaders.loader import open_loader
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardReader

_SLOW_S = 0.03


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
        slow = _slow(ENGINES["fused"], augment_s=_SLOW_S if stage == "augment" else 0.0)
        monkeypatch.setitem(ENGINES, "fused", slow)
    if stage == "read":
        monkeypatch.setattr(ShardReader, "read", _slow(ShardReader.read))
    loader = open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=1)
    step = (lambda _: time.sleep(0.5)) if stage == "consumer" else None
    profile = loader.profile(num_batches=4, step=step)
    assert profile.verdict == f"{stage}-bound"
    assert profile.num_videos == 8
    assert 0 <= profile.wait_s <= profile.wall_s
    assert f"{stage}-bound: " in str(profile)


def test_the_dataset_serves_the_epoch(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    loader = open_loader(numbered_shards, tiny_views, batch_size=4)
    dataset = EpochDataset(loader, start=1)
    workers: DataLoader[dict[str, torch.Tensor]] = DataLoader(dataset, batch_size=None)
    assert len(list(workers)) == len(loader) - 1
    dataset.set_epoch(3)
    served = list(workers)
    assert len(served) == len(workers) == len(loader)
    for ours, batch in zip(served, loader.batches(3), strict=True):
        assert torch.equal(ours["long"], batch.views["long"])
        assert torch.equal(ours["labels"], batch.labels)
        assert torch.equal(ours["valid"], batch.valid)


def test_the_dataset_refuses_worker_processes(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    dataset = EpochDataset(open_loader(numbered_shards, tiny_views))
    workers: DataLoader[dict[str, torch.Tensor]] = DataLoader(
        dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    with pytest.raises(InputError, match="num_workers: give 0"):
        next(iter(workers))
