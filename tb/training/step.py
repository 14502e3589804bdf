"""One step of training, as a stage writes it: from batches to new weights.

A stage of this project shows a whole step in one function:

    for labelled, unlabelled in step.batches():
        with step.autocast:
            ...  # targets, logits, losses
        step.backward({"loss": loss, ...})
    step.update()

Users' own stages write their losses in `terms`. `OwnLoss.step` in `tb/method/own_loss.py` is the
rest of their step.

What all stages share is here: waiting for batches, pieces, bad videos, clipping, the running mean.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from loaders import Batch
from tb.training.bad_videos import without_bad
from tb.training.optimizer import Optimizer
from tb.training.step_values import StepValues, Terms

BatchAugment = Callable[[Batch], Batch]
"""Changes the clips of a batch; it does not write into them."""


@dataclass(kw_only=True)
class Step:
    """One step. A stage's function takes all of `batches`, and then calls `update`.

    Attributes:
        values: The number of the step, and what is logged of it.
        streams: The streams of batches.
        optimizer: Updates the weights.
        rate: The learning rate.
        progress: The share of the run's steps before this one, in [0, 1).
        autocast: The number format of a forward pass.
        may_skip: Whether a batch may have bad videos.
        augment: The last change of every clip; None for none.
    """

    values: StepValues
    streams: Sequence[Iterator[Batch]]
    optimizer: Optimizer
    rate: float
    progress: float
    autocast: torch.autocast
    may_skip: bool = False
    augment: BatchAugment | None = None

    def batches(self) -> Iterator[tuple[Batch, ...]]:
        """Yields a batch of every stream, once for each piece of the step.

        A tuple has one `Batch` for each stream. After a piece in which a stream has no good video,
        nothing more is yielded, but the step's other batches are still taken.
        """
        for _ in range(self.values.num_pieces):
            with self.values.waiting():
                batches = tuple(next(stream) for stream in self.streams)
            self.values.count(batches)
            good = without_bad(batches) if self.may_skip else batches
            if good is None:
                self.values.leave_out()
            elif not self.values.is_left_out:
                augment = self.augment
                yield good if augment is None else tuple(augment(batch) for batch in good)

    def backward(self, terms: Terms) -> None:
        """Adds the gradient of a piece.

        Args:
            terms: Named scalars: "loss", whose gradient is taken, its terms ("L_..."), and others
                to be logged.
        """
        self.optimizer.backward(terms["loss"] / self.values.num_pieces)
        self.values.add(terms)

    def update(self, ema_decay: float | None = None) -> None:
        """Clips the gradient and makes Adam's step, unless the step is left out.

        Args:
            ema_decay: Decay of the running mean of the weights after this step. None: the stage's.
        """
        if self.values.is_left_out:
            self.optimizer.drop_gradients()
            norm = torch.zeros((), device=self.optimizer.device)
        else:
            norm = self.optimizer.clip_gradients()
            self.optimizer.update_weights(self.rate)
            self.optimizer.update_running_mean(self.values.step, ema_decay)
        self.values.end(self.rate, norm)
