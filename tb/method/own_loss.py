"""The step of users' own stages (`tb.register_method`)."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from loaders import Batch
from shards.errors import InputError
from tb.training.bad_videos import weights_of
from tb.training.step import Step
from tb.training.step_values import Terms


class OwnLoss(ABC):
    """The loss of a stage; a subclass writes its `terms`."""

    @abstractmethod
    def terms(self, *args: Any, **kwargs: Any) -> Terms:
        """The terms of one batch of every stream.

        Returns:
            Named scalars: "loss", whose gradient is taken, and others for the log.
        """

    def step(self, step: Step) -> None:
        """A whole step; InputError where the terms have no "loss"."""
        for batches in step.batches():
            with step.autocast:
                terms = self.terms(*batches)
            self._check(terms)
            step.backward(terms)
        step.update()

    def _check(self, terms: object) -> None:
        loss = terms.get("loss") if isinstance(terms, dict) else None
        if not isinstance(loss, Tensor) or loss.ndim:
            raise InputError(
                f"method {type(self).__qualname__}: its terms have no scalar tensor 'loss'; return"
                ' {"loss": ...}, and other scalars for the log beside it'
            )

    def mean(self, values: Tensor, batch: Batch) -> Tensor:
        """() the mean of a batch's (N,) values, one for each video; bad videos do not count."""
        weights = weights_of(batch)
        return values.mean() if weights is None else (values * weights).mean()
