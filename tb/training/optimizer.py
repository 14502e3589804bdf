"""Adam, with scaled losses, clipping and the running mean of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tb.config.optim import Optim
from tb.training.distributed import average_gradients, join, share_weights

Weights = dict[str, Tensor]


class Optimizer:
    """Trains a model in place.

    A step is `backward` any number of times, then `clip_gradients`, `update_weights` and
    `update_running_mean`.

    Attributes:
        device: Where the model is.
    """

    def __init__(
        self,
        model: nn.Module,
        optim: Optim,
        device: torch.device,
        *,
        scales_loss: bool,
        average: nn.Module | None = None,
    ) -> None:
        self._model, self._optim = model, optim
        self.device = device
        self._adam = torch.optim.Adam(
            model.parameters(),
            lr=optim.lr,
            weight_decay=optim.weight_decay,
            fused=device.type == "cuda",
        )
        # The scaler is for float16. If it is not enabled, each of its methods does nothing.
        self._scaler = torch.amp.GradScaler(device.type, enabled=scales_loss)
        self._ema: Weights | None = None
        if optim.ema_decay and average is None:
            self._ema = copy_weights(model.state_dict())
        elif average is not None:
            average.load_state_dict(model.state_dict())
            self._ema = average.state_dict()  # the tensors of `average`, changed in place

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of a loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def clip_gradients(self) -> Tensor:
        """Averages the gradients over all processes, and limits their norm to `clip_norm`.

        Returns:
            () the norm before clipping. Under float16 it is not finite after an overflow:
            `update_weights` then keeps the weights, and the next losses are scaled less.
        """
        parameters = [p for p in self._model.parameters() if p.grad is not None]
        average_gradients(parameters)
        self._scaler.unscale_(self._adam)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self._optim.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._optim.clip_norm, norm)
        return norm

    def update_weights(self, rate: float) -> None:
        """Adam's step with the learning rate `rate`; the gradients are gone afterwards."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._scaler.step(self._adam)
        self._scaler.update()
        self.drop_gradients()

    def update_running_mean(self, step: int, ema_decay: float | None = None) -> None:
        """Takes the weights after `step` into their running mean, where there is one.

        Args:
            step: The number of the step, from 0.
            ema_decay: The decay, in (0, 1). None: that of the settings.
        """
        ema_decay = ema_decay or self._optim.ema_decay
        if self._ema is None or ema_decay is None:
            return
        # The first steps count little, because their weights are close to the random start.
        decay = min(ema_decay, (1 + step) / (10 + step))
        for name, value in self._model.state_dict().items():
            if value.is_floating_point():
                self._ema[name].lerp_(value, 1 - decay)
            else:
                self._ema[name].copy_(value)

    def drop_gradients(self) -> None:
        """Forgets what `backward` has added; the weights stay as they are."""
        self._adam.zero_grad(set_to_none=True)

    @property
    def weights(self) -> Weights:
        """The result so far: the running mean where there is one, else the trained weights."""
        return self._model.state_dict() if self._ema is None else self._ema

    @contextmanager
    def showing_weights(self) -> Iterator[None]:
        """Inside, the model holds the result so far and is in eval mode; later it is as before.

        The result is rank 0's `weights`, because a checkpoint holds those. Other processes have the
        same parameters, but their own batch-norm statistics.
        """
        raw = None
        if self._ema is not None or join().size > 1:
            raw = copy_weights(self._model.state_dict())
            self._model.load_state_dict(self.weights)
            share_weights(self._model)
        self._model.eval()
        try:
            yield
        finally:
            self._model.train()
            if raw is not None:
                self._model.load_state_dict(raw)

    def state(self) -> dict[str, Any]:
        """Its part of a checkpoint.

        "model" is `weights`, and "raw" has the trained weights if they differ.
        """
        state = {"model": self.weights, "optimizer": self._adam.state_dict()}
        if self._ema is not None:
            state["raw"] = self._model.state_dict()
        if self._scaler.is_enabled():
            state["scaler"] = self._scaler.state_dict()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        self._model.load_state_dict(state.get("raw", state["model"]))
        self._adam.load_state_dict(state["optimizer"])
        if self._ema is not None:
            for name, value in self._ema.items():
                value.copy_(state["model"][name])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])


def copy_weights(weights: Weights) -> Weights:
    """A copy, in the same memory layout."""
    return {name: value.clone() for name, value in weights.items()}
