"""The state of a run: all that changes while a stage trains. A checkpoint holds it."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.differences import Tree, differences
from tb.config.optim import Select
from tb.config.work_data import other_data
from tb.training.optimizer import Optimizer, Weights, copy_weights
from tb.training.schedule import Schedule
from tb.training.stage import Stage
from tb.weights.checkpoint import fitting, keep_last, load_checkpoint, save_checkpoint


@dataclass(kw_only=True)
class RunState:
    """A stage in training.

    Attributes:
        stage: The stage.
        path: Its checkpoint.
        optimizer: Updates the weights.
        schedule: Gives the learning rate.
        best_loss: The lowest loss of an epoch, under `select` "best".
        best_weights: The weights after that epoch.
    """

    stage: Stage
    path: Path
    optimizer: Optimizer
    schedule: Schedule
    best_loss: float = math.inf
    best_weights: Weights | None = None

    def needs_loss_after(self, step: int) -> bool:
        """Whether an epoch ends with `step`, and something depends on the epoch's loss."""
        return self.schedule.ends_epoch(step) and (
            self.schedule.is_adaptive or self._selects_best or self.stage.validate is not None
        )

    def observe(self, step: int, loss: float | None) -> dict[str, float]:
        """Takes the loss of `step`; at an epoch's end, keeps the weights if they are the best.

        Args:
            step: The number of the step, from 0.
            loss: Its training loss; None for a step that was left out.

        Returns:
            What was measured on the held-out videos, and how long that took ("val_s"); {} where
            nothing was.
        """
        found: dict[str, float] = {}
        epoch_loss = self.schedule.observe(step, loss)
        if epoch_loss is None:
            return found
        if self.stage.validate is not None:
            began_s = time.perf_counter()
            with self.optimizer.showing_weights(), torch.no_grad():
                found = self.stage.validate()
            found["val_s"] = time.perf_counter() - began_s
            epoch_loss = found["val_loss"]
        self.schedule.judge(step, epoch_loss)
        if self._selects_best and epoch_loss < self.best_loss:
            self.best_loss = epoch_loss
            self.best_weights = copy_weights(self.optimizer.weights)
        return found

    @property
    def _selects_best(self) -> bool:
        return self.stage.optim.select == Select.BEST

    def save(self, step: int, num_kept: int) -> None:
        """Writes the checkpoint after `step` steps; after the last step, it is the result."""
        device = self.stage.device
        state: dict[str, Any] = {
            "stage": self.stage.name,
            "backbone": self.stage.model.backbone.identity,
            "classes": self.stage.classes,
            "settings": json.dumps(self.stage.settings, sort_keys=True),
            "step": step,
            "steps": self.stage.optim.steps,
            **self.optimizer.state(),
            "schedule": self.schedule.state(),
            "random": torch.get_rng_state(),
        }
        if device.type == "cuda":
            state["cuda_random"] = torch.cuda.get_rng_state(device)
        if self.stage.memory is not None:
            state["memory"] = self.stage.memory.state_dict()
        if self.best_weights is not None:
            if step == self.stage.optim.steps:
                state |= {"model": self.best_weights, "raw": state.get("raw", state["model"])}
            else:
                state["best"] = {"loss": self.best_loss, "weights": self.best_weights}
        save_checkpoint(self.path, state)
        keep_last(self.path, step, num_kept)

    def resume(self) -> int:
        """Loads the checkpoint, if there is one, and returns the run's next step."""
        if not self.path.exists():
            return 0
        state, device = load_checkpoint(self.path), self.stage.device
        _check_settings(self.path, json.loads(state["settings"]), self.stage.settings)
        step = int(state["step"])
        if step >= self.stage.optim.steps:
            return step
        with fitting(self.path, self.stage.model.backbone):
            self.optimizer.restore(state)
        self.schedule.restore(state["schedule"])
        if self.stage.memory is not None:
            self.stage.memory.load_state_dict(state["memory"])
        torch.set_rng_state(state["random"])
        if "cuda_random" in state and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_random"], device)
        if "best" in state:
            best = state["best"]
            self.best_loss = best["loss"]
            self.best_weights = {name: value.to(device) for name, value in best["weights"].items()}
        return step


def check_data(path: Path, manifest: Manifest) -> None:
    """Refuses a run that began with other videos, before anything is computed for it.

    Args:
        path: Its checkpoint, which may be missing.
        manifest: The data set that the user named.

    Raises:
        InputError: The run began with other videos; the message says what to give.
    """
    if not path.exists():
        return
    before = str(json.loads(load_checkpoint(path)["settings"])["data"])
    if before != manifest.digest:
        remedy = other_data(manifest, before) or "choose another --out, or delete that folder"
        raise InputError(
            f"{path.parent}: holds a run with other settings: data was {before!r}, now"
            f" {manifest.digest!r}; {remedy}"
        )


def _check_settings(path: Path, before: Tree, now: Tree) -> None:
    changed = list(differences(before, now))
    if changed:
        key, old, new = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputError(
            f"{path.parent}: holds a run with other settings: {key} was {old!r}, now {new!r}{more};"
            " choose another --out, or delete that folder"
        )
