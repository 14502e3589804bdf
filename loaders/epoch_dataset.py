"""A loader as a `torch.utils.data.IterableDataset`, for frameworks that want one."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from loaders.loader import Loader
from shards.errors import InputError


class EpochDataset(IterableDataset[dict[str, torch.Tensor]]):
    """A loader's batches as plain dicts: each group of views by its name, "labels", "valid".

    One iteration serves the rest of the loader's epoch. The next one serves the next epoch. Give
    the data set to a `DataLoader` or to torchdata's `StatefulDataLoader` with `batch_size=None` and
    `num_workers=0`, because the loader's threads already make whole batches.

    Attributes:
        loader: Serves the batches. Its position is the position of the data set.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def set_epoch(self, epoch: int) -> None:
        """The next iteration serves this epoch, from its beginning."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """See `Loader.state_dict`."""
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `Loader.load_state_dict`."""
        self.loader.load_state_dict(state_dict)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if get_worker_info() is not None:
            raise InputError(
                "DataLoader: set num_workers=0, because the loader has its own threads"
            )
        for batch in self.loader:
            yield {**batch.views, "labels": batch.labels, "valid": batch.valid}
