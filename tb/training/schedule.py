"""The learning rate, and what it remembers of past epochs."""

import math
from dataclasses import asdict, dataclass, field

from tb.config.settings import Optim, Tree


@dataclass(kw_only=True)
class Schedule:
    """Learning rate as a function of the step, and of past epochs' losses under "plateau"."""

    optim: Optim
    steps_per_epoch: int
    factor: float = 1.0
    best: float = math.inf
    stale_epochs: int = 0
    epoch_losses: list[float] = field(default_factory=list)

    def lr(self, step: int) -> float:
        """The rate to use at `step` (0-based)."""
        warmup = self.optim.warmup_steps
        rate = self.optim.lr * min(1.0, (step + 1) / (warmup + 1))
        if self.optim.schedule == "cosine":
            share = max(0, step - warmup) / max(1, self.optim.steps - warmup)
            rate *= (1 + math.cos(math.pi * share)) / 2
        return rate * self.factor

    def observe(self, step: int, loss: float) -> float | None:
        """Takes the training loss of `step`; at an epoch's end returns the epoch's mean."""
        self.epoch_losses.append(loss)
        if (step + 1) % self.steps_per_epoch:
            return None
        mean = sum(self.epoch_losses) / len(self.epoch_losses)
        self.epoch_losses.clear()
        return mean

    def judge(self, step: int, epoch_loss: float) -> None:
        """Takes the loss of the epoch that ended with `step`; halves the rate on a plateau."""
        if self.optim.schedule != "plateau" or step < self.optim.warmup_steps:
            return
        if epoch_loss < self.best:
            self.best, self.stale_epochs = epoch_loss, 0
            return
        self.stale_epochs += 1
        if self.stale_epochs >= self.optim.patience:
            self.factor, self.stale_epochs = self.factor / 2, 0

    def state(self) -> Tree:
        """What `restore` needs."""
        memory = asdict(self)
        del memory["optim"], memory["steps_per_epoch"]
        return memory

    def restore(self, state: Tree) -> None:
        """Takes up a `state`."""
        for name, value in state.items():
            setattr(self, name, value)
