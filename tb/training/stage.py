"""A stage as the training loop sees it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from loaders import Loader
from loaders.engines.choice import EngineChoice
from tb.config.differences import Tree
from tb.config.optim import Optim
from tb.networks.heads import Classifier, Embedder
from tb.training.step import BatchAugment, Step

TakeStep = Callable[[Step], None]
"""A whole step, from batches to new weights."""
Validate = Callable[[], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A network, its data and what a step does with both.

    Attributes:
        name: Its folder inside the work folder.
        model: The network, which is trained in place.
        classes: Class names of a classifier, [] for an embedder.
        optim: Steps, batch size, learning rate.
        loaders: One for each stream; a step takes `optim.accumulate` batches of every stream.
        step: A whole step; see `tb.training.step`.
        settings: All that the result depends on; a run resumes only under the same settings.
        average: A network like `model` that holds the running mean of its weights
            (`optim.ema_decay`), for a step that needs it.
        frozen: Other networks that a step runs, which are not trained.
        memory: State that a step keeps for later steps, as buffers; a checkpoint holds it.
        augment: The last change of every training clip; None for none.
        validate: Measures `model`, in eval mode, on the videos held out. It returns named values,
            the same on all processes. One of them is "val_loss", which is then the epoch's loss.
        validation_loader: The loader of `validate`; it is closed with the others.
        engine: The engine, and why it was chosen; None: that of the loaders.
    """

    name: str
    model: Embedder | Classifier
    classes: list[str]
    optim: Optim
    loaders: tuple[Loader, ...]
    step: TakeStep
    settings: Tree
    average: Classifier | None = None
    frozen: tuple[Classifier, ...] = ()
    memory: nn.Module | None = None
    augment: BatchAugment | None = None
    validate: Validate | None = None
    validation_loader: Loader | None = None
    engine: EngineChoice | None = None

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        device: torch.device = self.loaders[0].device
        return device

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which the shortest stream (most often the labelled one) runs once."""
        shortest = min(loader.planner.num_windows for loader in self.loaders)
        return max(1, round(shortest / self.optim.batch_size))

    @property
    def all_loaders(self) -> tuple[Loader, ...]:
        """The loaders of its streams, and that of `validate`."""
        held_out = () if self.validation_loader is None else (self.validation_loader,)
        return (*self.loaders, *held_out)

    def close(self) -> None:
        """Closes its loaders."""
        for loader in self.all_loaders:
            loader.close()
