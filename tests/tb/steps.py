"""What tests do with a stage's step: look at its terms, change them, see its batches, stop it."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from loaders import Batch
from tb.training.stage import Stage, TakeStep
from tb.training.step import Step
from tb.training.step_values import Terms


class StoppedError(Exception):
    pass


class _GivenStep:
    """A step of given batches, which keeps its terms and updates nothing."""

    def __init__(self, batches: tuple[Batch, ...]) -> None:
        self._batches, self.terms, self.autocast = batches, Terms(), nullcontext()
        self.progress = 0.5

    def batches(self) -> Iterator[tuple[Batch, ...]]:
        yield self._batches

    def backward(self, terms: Terms) -> None:
        self.terms = terms

    def update(self, ema_decay: float | None = None) -> None:
        pass


def terms_of(take: TakeStep, batches: tuple[Any, ...]) -> Terms:
    """The terms of a step of one piece, with their graph; nothing is updated."""
    given = _GivenStep(batches)
    take(given)  # type: ignore[arg-type]
    return given.terms


def with_terms(stage: Stage, change: Callable[[Terms], Terms]) -> Stage:
    """The stage, but the terms of every piece are changed."""

    def take(step: Step) -> None:
        backward = step.backward
        step.backward = lambda terms: backward(change(terms))  # type: ignore[method-assign]
        stage.step(step)

    return replace(stage, step=take)


def watched(stage: Stage, watch: Callable[[tuple[Batch, ...]], object]) -> Stage:
    """The stage, but each piece's batches are shown to a function before the stage has them."""

    def take(step: Step) -> None:
        batches = step.batches

        def shown() -> Iterator[tuple[Batch, ...]]:
            for piece in batches():
                watch(piece)
                yield piece

        step.batches = shown  # type: ignore[method-assign]
        stage.step(step)

    return replace(stage, step=take)


def stopping_at(stage: Stage, num_pieces: int) -> Stage:
    """The stage, but it fails after so many pieces, as a killed run does."""
    left = iter(range(num_pieces))

    def stop(batches: tuple[Batch, ...]) -> None:
        if next(left, None) is None:
            raise StoppedError

    return watched(stage, stop)
