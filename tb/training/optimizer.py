"""Adam, and what surrounds its step: loss scaling, clipping, the running mean of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tb.config.settings import Optim
from tb.training.distributed import average_gradients

Weights = dict[str, Tensor]


class Optimizer:
    """Trains a model in place; `backward` any number of times, then `step`."""

    def __init__(
        self,
        model: nn.Module,
        optim: Optim,
        device: torch.device,
        *,
        fp16: bool,
        average: nn.Module | None = None,
    ) -> None:
        self._model, self._optim = model, optim
        self._adam = torch.optim.Adam(
            model.parameters(),
            lr=optim.lr,
            weight_decay=optim.weight_decay,
            fused=device.type == "cuda",
        )
        # Without float16 every method of the scaler does nothing.
        self._scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self._ema: Weights | None = None
        if optim.ema_decay and average is None:
            self._ema = copy_weights(model.state_dict())
        elif average is not None:
            average.load_state_dict(model.state_dict())
            self._ema = average.state_dict()  # its own tensors, changed in place

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of a loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, step: int, rate: float) -> Tensor:
        """Updates the weights with the gradients so far, averaged over all processes.

        Args:
            step: Which one it is, from 0.
            rate: The learning rate.

        Returns:
            () the gradient's norm before clipping. Where it is not finite, float16 has overflowed:
            the weights stay, and the next losses are scaled less.
        """
        for group in self._adam.param_groups:
            group["lr"] = rate
        parameters = [p for p in self._model.parameters() if p.grad is not None]
        average_gradients(parameters)
        self._scaler.unscale_(self._adam)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self._optim.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._optim.clip_norm, norm)
        self._scaler.step(self._adam)
        self._scaler.update()
        self._adam.zero_grad(set_to_none=True)
        self._update_ema(step)
        return norm

    def _update_ema(self, step: int) -> None:
        if self._ema is None or self._optim.ema_decay is None:
            return
        # The first steps count little: their weights are the random start.
        decay = min(self._optim.ema_decay, (1 + step) / (10 + step))
        for name, value in self._model.state_dict().items():
            if value.is_floating_point():
                self._ema[name].lerp_(value, 1 - decay)
            else:
                self._ema[name].copy_(value)

    @property
    def weights(self) -> Weights:
        """What later stages are to read: the running mean, where there is one."""
        return self._model.state_dict() if self._ema is None else self._ema

    @contextmanager
    def showing_weights(self) -> Iterator[None]:
        """Inside, the model holds `weights` and is in eval mode; afterwards it is as before."""
        raw = None
        if self._ema is not None:
            raw = copy_weights(self._model.state_dict())
            self._model.load_state_dict(self._ema)
        self._model.eval()
        try:
            yield
        finally:
            self._model.train()
            if raw is not None:
                self._model.load_state_dict(raw)

    def state(self) -> dict[str, Any]:
        """The checkpoint's part: "model" is `weights`, "raw" the trained ones where they differ."""
        state = {"model": self.weights, "optimizer": self._adam.state_dict()}
        if self._ema is not None:
            state["raw"] = self._model.state_dict()
        if self._scaler.is_enabled():
            state["scaler"] = self._scaler.state_dict()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a `state`."""
        self._model.load_state_dict(state.get("raw", state["model"]))
        self._adam.load_state_dict(state["optimizer"])
        if self._ema is not None:
            for name, value in self._ema.items():
                value.copy_(state["model"][name])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])


def copy_weights(weights: Weights) -> Weights:
    """Tensors of their own, in the same memory layout."""
    return {name: value.clone() for name, value in weights.items()}
