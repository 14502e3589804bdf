"""The learning rate: warm-up, then halved on a plateau, cosine or constant."""

import math
from dataclasses import asdict, dataclass, field
from statistics import fmean

from tb.config.differences import Tree
from tb.config.optim import LrSchedule, Optim


@dataclass(kw_only=True)
class Schedule:
    """The learning rate as a function of the step and, under "plateau", of past epochs' losses.

    Attributes:
        optim: The settings.
        steps_per_epoch: Steps of an epoch.
        factor: 1, halved on every plateau down to `optim.plateau_floor`.
        best: The loss at the last look that counted as lower (`optim.plateau_threshold`).
        num_stale: Looks since then, or since the rate was halved.
        step_losses: The losses of the epoch so far.
        epoch_losses: The losses of the epochs since the last look.
    """

    optim: Optim
    steps_per_epoch: int
    factor: float = 1.0
    best: float = math.inf
    num_stale: int = 0
    step_losses: list[float] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)

    def lr(self, step: int) -> float:
        """The rate to use at `step` (0-based)."""
        warmup = self.optim.warmup_steps
        rate = self.optim.lr * min(1.0, (step + 1) / (warmup + 1))
        if self.optim.schedule == LrSchedule.COSINE:
            share = max(0, step - warmup) / max(1, self.optim.steps - warmup)
            rate *= (1 + math.cos(math.pi * share)) / 2
        return rate * self.factor

    @property
    def is_adaptive(self) -> bool:
        """Whether the rate depends on the epochs' losses."""
        return self.optim.schedule == LrSchedule.PLATEAU

    def ends_epoch(self, step: int) -> bool:
        """Whether `step` is the last one of an epoch."""
        return (step + 1) % self.steps_per_epoch == 0

    def observe(self, step: int, loss: float | None) -> float | None:
        """Takes the training loss of `step`; at an epoch's end returns the epoch's mean.

        A step that was left out has no loss (None). An epoch of such steps has no mean.
        """
        if loss is not None:
            self.step_losses.append(loss)
        if not (self.ends_epoch(step) and self.step_losses):
            return None
        mean = sum(self.step_losses) / len(self.step_losses)
        self.step_losses.clear()
        return mean

    def judge(self, step: int, epoch_loss: float) -> None:
        """Takes the loss of the epoch that ended with `step`; halves the rate on a plateau."""
        if not self.is_adaptive or step < self.optim.warmup_steps:
            return
        self.epoch_losses.append(epoch_loss)
        if len(self.epoch_losses) * self.steps_per_epoch < self.optim.plateau_steps:
            return
        loss = fmean(self.epoch_losses)
        self.epoch_losses.clear()
        if loss < self.best * (1 - self.optim.plateau_threshold):
            self.best, self.num_stale = loss, 0
            return
        self.num_stale += 1
        if self.num_stale >= self.optim.patience:
            self.factor, self.num_stale = max(self.factor / 2, self.optim.plateau_floor), 0

    def state(self) -> Tree:
        """Its memory, for `restore`."""
        memory = asdict(self)
        del memory["optim"], memory["steps_per_epoch"]
        return memory

    def restore(self, state: Tree) -> None:
        """Goes on from a `state`."""
        for name, value in state.items():
            setattr(self, name, value)
