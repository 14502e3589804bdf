"""A user's own augmentation: the last step of every training clip, on the device that trains.

It is a function of clips and of random numbers that were drawn beforehand, as the engines are
functions of a plan. So its result does not depend on the batch, the processes or a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from loaders import Batch
from loaders.plan.draw import draw_uniform
from shards.errors import InputError
from tb.config.sections import Config
from tb.registry import Registry
from tb.training.step import BatchAugment

NUM_DRAWS = 16
"""Random numbers for each view."""
Augmentation = Callable[[Tensor, Tensor, str], Tensor]
"""(clips, draws, group) -> clips; see `register_augmentation`."""
RegisteredAugmentation = TypeVar("RegisteredAugmentation", bound=Augmentation)
_REGISTERED: Registry[Augmentation] = Registry("augmentation", "tb.register_augmentation")


def register_augmentation(augment: RegisteredAugmentation) -> RegisteredAugmentation:
    """A decorator: the setting `augmentation` may name this function, as "module.name".

    Args:
        augment: Called with
            clips: (N, 3, T, H, W) on the training device, in [0, 1] or normalised; float32, or
            float16 under `machine.amp`. A new tensor of this shape is returned.
            draws: (N, 16) float32 on the same device, uniform in [0, 1): all its randomness.
            group: The views that the clips are of: "clip", "weak", "strong", "short" or "long".

    Raises:
        InputError: The function is not at the top level of a module.
    """
    _REGISTERED.add(augment)
    return augment


def registered_augmentation_name(augment: Augmentation) -> str:
    """The value of the setting `augmentation` for a registered function; InputError for others."""
    return _REGISTERED.name_of(augment)


@dataclass(frozen=True, kw_only=True)
class DrawnAugmentation:
    """An augmentation with the random numbers that the seed and a batch's plan give it.

    Attributes:
        augment: The augmentation.
        name: Its qualified name.
        seed: The run's seed.
    """

    augment: Augmentation
    name: str
    seed: int

    def __call__(self, batch: Batch) -> Batch:
        """The batch with changed clips; InputError where clips change their shape."""
        flat = {group: clips.flatten(0, -5) for group, clips in batch.views.items()}
        num_views = [len(clips) // len(batch.keys) for clips in flat.values()]
        plan, size = batch.plan, sum(num_views) * NUM_DRAWS
        drawn = draw_uniform(plan.rows, plan.epochs, plan.clips, size, seed=self.seed)
        parts = torch.split(
            torch.from_numpy(drawn).view(len(drawn), -1, NUM_DRAWS), num_views, dim=1
        )
        views = {}
        with torch.no_grad(), torch.autocast(batch.labels.device.type, enabled=False):
            for (group, clips), part in zip(flat.items(), parts, strict=True):
                draws = part.flatten(0, 1).to(clips.device, non_blocking=True)
                found = self.augment(clips, draws, group)
                self._check(found, clips, group)
                views[group] = found.to(clips).reshape(batch.views[group].shape)
        return replace(batch, views=views)

    def _check(self, found: object, clips: Tensor, group: str) -> None:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != tuple(clips.shape):
            raise InputError(
                f"augmentation {self.name}: returns {shape} for {group!r}; return clips of shape"
                f" {tuple(clips.shape)}"
            )


def augmentation_of(config: Config) -> BatchAugment | None:
    """The augmentation that the setting `augmentation` names; None if it names none.

    Raises:
        InputError: The setting `augmentation` names something that is not registered.
    """
    name, seed = config.augmentation, config.machine.seed
    if name is None:
        return None
    return DrawnAugmentation(augment=_REGISTERED.find(name), name=name, seed=seed)
