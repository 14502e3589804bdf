"""Validation: measures a classifier in training on held-out labelled videos.

`labels.validation` holds them out.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from loaders import Loader, Part
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.clips import evaluation_loader, video_means
from tb.networks.heads import Classifier
from tb.training.distributed import join, mean

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Measures cross entropy and top-1 of the mean softmax, on the clips that `tb eval` would take.

    Processes share the videos.

    Attributes:
        model: The classifier in training.
        manifest: The data set.
        loader: The held-out videos.
    """

    model: Classifier
    manifest: Manifest
    loader: Loader

    def __call__(self) -> dict[str, float]:
        """Returns "val_loss" and "val_top1" over the good videos, the same on all processes."""
        probabilities, rows = video_means(
            self.loader,
            lambda clips: self.model(clips).float().softmax(-1),
            "validate",
            quiet=True,
        )
        labels = self.manifest.labels[rows]
        right = probabilities[np.arange(len(rows)), labels]
        entropies = -np.log(np.maximum(right, np.finfo(np.float32).tiny))
        hits = probabilities.argmax(1) == labels
        sums = torch.tensor([entropies.sum(), hits.sum(), len(rows)], device=self.loader.device)
        loss, top1, number = mean(sums).tolist()
        if not number:
            raise InputError("no video held out by labels.validation can be read; see bad.jsonl")
        return {"val_loss": loss / number, "val_top1": top1 / number}


def open_validation(model: Classifier, manifest: Manifest, config: Config) -> Validation:
    """The validation of a classifier; the caller closes its loader."""
    world, subset = join(), config.labels.subset(Part.VALIDATION)
    policy = config.machine.fault_policy
    loader = evaluation_loader(manifest, config, subset, world, on_error=policy)
    if world.is_main:
        logger.info(
            "held out for validation: %d labelled videos, of %d of %d classes",
            len(loader.rows),
            len(set(manifest.labels[loader.rows].tolist())),
            len(manifest.classes),
        )
    return Validation(model=model, manifest=manifest, loader=loader)
