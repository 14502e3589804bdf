"""Runs that stop in the middle, as a killed run does."""

from dataclasses import replace

from torch import Tensor

from loaders import Batch
from tb.training.stage import Stage


class StoppedError(Exception):
    pass


def stopping_at(stage: Stage, step: int) -> Stage:
    """The stage, but its loss function fails at the given call."""
    calls = [0]

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        calls[0] += 1
        if calls[0] > step:
            raise StoppedError
        return stage.loss(batches)

    return replace(stage, loss=loss)
