"""A loader as a `torch.utils.data.IterableDataset`, for frameworks that want one."""

from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset, get_worker_info

from loaders.loader import Loader
from shards.errors import InputError


class EpochDataset(IterableDataset[dict[str, torch.Tensor]]):
    """One epoch's batches as plain dicts: each group of views by its name, "labels", "valid".

    Give it to a DataLoader with `batch_size=None` and `num_workers=0`: batches are made already,
    by the loader's own threads.

    Attributes:
        loader: What serves the batches.
        epoch: Which epoch; `set_epoch` changes it.
        start: Batches to leave out at its beginning.
    """

    def __init__(self, loader: Loader, epoch: int = 0, start: int = 0) -> None:
        self.loader = loader
        self.epoch = epoch
        self.start = start

    def set_epoch(self, epoch: int) -> None:
        """The next iteration serves this epoch, from its beginning."""
        self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if get_worker_info() is not None:
            raise InputError("DataLoader num_workers: give 0, the loader has threads of its own")
        for batch in self.loader.batches(self.epoch, self.start):
            yield {**batch.views, "labels": batch.labels, "valid": batch.valid}
