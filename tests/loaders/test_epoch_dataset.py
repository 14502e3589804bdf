"""A loader as an iterable data set for PyTorch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from loaders import EpochDataset, open_loader
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest


def test_the_dataset_serves_the_epoch(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    loader = open_loader(numbered_shards, tiny_views, batch_size=4)
    dataset = EpochDataset(loader)
    workers: DataLoader[dict[str, torch.Tensor]] = DataLoader(dataset, batch_size=None)
    next(iter(dataset))
    assert len(list(workers)) == len(loader) - 1
    assert loader.epoch == 1
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
    with pytest.raises(InputError, match="set num_workers=0"):
        next(iter(workers))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize("num_served", [0, 1, 2, 3, 4, 6])
def test_torchdatas_loader_resumes(
    numbered_shards: Manifest, tiny_views: ViewSpec, num_served: int
) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def opened() -> Any:
        dataset = EpochDataset(open_loader(numbered_shards, tiny_views, batch_size=3))
        return stateful.StatefulDataLoader(dataset, batch_size=None, num_workers=0)

    def endless(loader: Any) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from loader

    whole = list(islice(endless(opened()), 10))
    first = opened()
    served = list(islice(endless(first), num_served))
    second = opened()
    second.load_state_dict(first.state_dict())
    rest = list(islice(endless(second), 10 - num_served))
    for ours, theirs in zip([*served, *rest], whole, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
