"""`loaders.Render` behind readers that are not ours, to be timed beside `open_loader`.

- "render-webdataset": `webdataset.WebDataset(urls).map(render)` on the same shards. This is the
  library's best case: shards are shuffled, samples are not. It reads whole shards, so it also reads
  the videos that the loader does not serve, and passes over them.
- "render-folder": a `DataLoader` over the same videos as files. They are written once, before the
  rounds, to a temporary folder, which takes as much room as the videos in the shards.

Both get the draws of `open_loader`, because the number of a key is its row. "render-folder" gets
the draws of each round's epoch, "render-webdataset" those of epoch 0.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from loaders import Loader, Render
from loaders.plan.draw import Plan
from shards.reader import ShardReader

WEBDATASET, FOLDER = "render-webdataset", "render-folder"
READERS = (WEBDATASET, FOLDER)


def _render(loader: Loader, dtype: str) -> Render:
    rows = {loader.manifest.keys[row]: row for row in loader.rows.tolist()}
    return Render(loader.spec, number=rows.__getitem__, dtype=dtype)


def shard_urls(loader: Loader) -> list[str]:
    """The shards with videos that the loader serves; the library gives workers whole shards."""
    manifest = loader.manifest
    shards = np.unique(manifest.shard_index[loader.rows])
    return [str(manifest.shard_path(manifest.shard_names[shard])) for shard in shards.tolist()]


def webdataset_samples(loader: Loader, dtype: str, num_samples: int) -> Any:
    """The stock library as the reader: each iteration of a worker gives `num_samples` samples.

    Returns:
        A `webdataset.WebDataset`: samples are tuples of the groups of views.

    Raises:
        ImportError: The library is not installed.
    """
    import webdataset

    keys = {loader.manifest.keys[row] for row in loader.rows.tolist()}
    samples = webdataset.WebDataset(shard_urls(loader), shardshuffle=100)
    samples = samples.select(lambda sample: sample["__key__"] in keys)
    samples = samples.map(_render(loader, dtype))
    return samples.to_tuple(*[group.name for group in loader.spec.groups]).with_epoch(num_samples)


class Folder(Dataset[list[torch.Tensor]]):
    """(epoch, manifest row) -> the groups of views of that video's file."""

    def __init__(self, loader: Loader, dtype: str) -> None:
        """Writes the files. They are deleted when nothing refers to the data set."""
        self._folder = TemporaryDirectory(prefix="render-folder-")
        self._render = _render(loader, dtype)
        with ShardReader(loader.manifest) as reader:
            for row in loader.rows.tolist():
                self._path(row).write_bytes(reader.read(row))

    def __getitem__(self, index: tuple[int, int]) -> list[torch.Tensor]:
        epoch, row = index
        return list(self._render.views(self._path(row), key=row, epoch=epoch).values())

    def _path(self, row: int) -> Path:
        return Path(self._folder.name) / f"{row}.video"


def rendered_views(loader: Loader, plan: Plan, reader: ShardReader) -> list[np.ndarray]:
    """The views of a plan of one video by `Render`, each (T, S, S, 3) float32."""
    row, epoch = int(plan.rows[0]), int(plan.epochs[0])
    groups = _render(loader, "float32").views(reader.read(row), key=row, epoch=epoch)
    return [view.movedim(0, -1).numpy() for group in groups.values() for view in _flat(group)]


def _flat(group: torch.Tensor) -> torch.Tensor:
    return group.reshape(-1, *group.shape[-4:])
