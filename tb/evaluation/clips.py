"""Evaluation takes many clips from one decode of each video, and averages their outputs."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from loaders import Loader, Skip, Subset, open_loader
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.progress import ProgressBar
from tb.training.world import World
from tb.weights.classifier_input import ClassifierInput


def evaluation_loader(
    manifest: Manifest,
    config: Config,
    subset: Subset,
    world: World | None = None,
    *,
    on_error: Literal["raise"] | Skip = "raise",
) -> Loader:
    """A loader of videos in the manifest's order, with many clips of each; the caller closes it.

    Args:
        manifest: The data set.
        config: Says which clips (`tb.weights.classifier_input`), and how to run.
        subset: The videos.
        world: The processes that share the videos. Default: this process has all of them.
        on_error: What happens to bad videos. Accuracies and features of a split are about all of
            its videos, so they need "raise".

    Raises:
        InputError: There are no such videos.
    """
    world = world or World()
    return open_loader(
        manifest,
        ClassifierInput.of(config).views(),
        subset=subset,
        batch_size=config.evaluation.batch_size,
        cache=config.machine.cache,
        engine=config.machine.engine,
        layout=config.machine.dali_views,
        device=world.device(config.machine.device),
        num_workers=config.machine.num_workers,
        in_process=config.machine.in_process,
        lookahead_mb=config.machine.lookahead_mb,
        rank=world.rank,
        world_size=world.size,
        shuffle=False,
        on_error=on_error,
    )


@torch.no_grad()
def video_means(
    loader: Loader, forward: Callable[[Tensor], Tensor], title: str, *, quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A network's output for every video, averaged over the video's clips.

    Args:
        loader: An `evaluation_loader`.
        forward: (N, 3, T, H, W) clips -> (N, D).
        title: Title of the progress bar.
        quiet: No progress bar.

    Returns:
        (V, D) float32 means and (V,) manifest rows.
    """
    found, rows = [], []
    with ProgressBar(title, len(loader), quiet=quiet) as bar:
        for index, batch in enumerate(loader.batches(0)):
            each = forward(batch.views["clips"].flatten(0, 2)).float()
            means = each.view(len(batch.keys), -1, each.shape[-1]).mean(1).cpu()
            valid = batch.valid.cpu()
            found.append(means[valid].numpy())
            rows.append(batch.plan.rows[valid.numpy()])
            bar.update(index + 1)
    return np.concatenate(found), np.concatenate(rows)
