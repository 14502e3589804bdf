"""The training loop: one for every stage, readable from top to bottom.

A step number is the whole position of a run: the loaders' streams, the learning rate and the log
are functions of it. A checkpoint adds the weights, the optimiser, the schedule's memory and the
random state, so that a run which was killed goes on bit for bit (on a CPU).
"""

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loaders.batch import Batch, Loader
from shards.errors import InputError
from shards.lock import locked
from shards.publish import publish_bytes
from tb.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from tb.config import CONFIG, Config, Optim, Tree, dump_yaml, remember_config
from tb.metrics import METRICS, MetricsLog
from tb.preemption import EXIT_CODE, preemption
from tb.progress import ProgressBar


class TrainingError(InputError):
    """Training cannot go on; the message names the step and the last good checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage trains, on what, and how.

    Attributes:
        name: Its folder inside the work folder.
        model: Trained in place.
        backbone: Name of the model's backbone.
        classes: Class names of a classifier, [] for an embedder.
        optim: Steps, batch size, learning rate.
        loaders: One stream each; a step takes one batch of every stream.
        loss: The batches -> named scalars, among them "loss".
        settings: Everything the result depends on; a run resumes only under the same.
    """

    name: str
    model: nn.Module
    backbone: str
    classes: list[str]
    optim: Optim
    loaders: tuple[Loader, ...]
    loss: Callable[[tuple[Batch, ...]], dict[str, Tensor]]
    settings: Tree

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which the last stream (the unlabelled one, where there are two) runs once."""
        return max(1, round(len(self.loaders[-1].rows) / self.optim.batch_size))


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

    def observe(self, step: int, loss: float) -> None:
        """Takes the loss of `step`; at an epoch's end, halves the rate if it has plateaued."""
        if self.optim.schedule != "plateau":
            return
        self.epoch_losses.append(loss)
        if (step + 1) % self.steps_per_epoch:
            return
        mean = sum(self.epoch_losses) / len(self.epoch_losses)
        self.epoch_losses.clear()
        if step < self.optim.warmup_steps:
            return
        if mean < self.best:
            self.best, self.stale_epochs = mean, 0
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


def train(stage: Stage, work: Path, config: Config) -> Path:
    """Trains a stage to its last step, from its last checkpoint where there is one.

    Args:
        stage: What to train.
        work: The work folder; the run lives in WORK/STAGE.
        config: All settings, for the record; `config.machine` says how to run.

    Returns:
        The final checkpoint.

    Raises:
        InputError: WORK/STAGE holds a run with other settings, or another process trains there.
        TrainingError: The loss is not finite.
        SystemExit: With code 143, after SIGTERM and a checkpoint.
    """
    folder = work / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    # A killed parent's child needs a moment to notice.
    with locked(folder / ".lock", f"{folder}: another process trains there", patience_s=5):
        return _train(stage, folder, config)


def _train(stage: Stage, folder: Path, config: Config) -> Path:
    machine, path = config.machine, folder / CHECKPOINT
    machine.limit_threads()
    device = _device(stage)
    stage.model.to(device).train()
    optimizer = torch.optim.Adam(
        stage.model.parameters(),
        lr=stage.optim.lr,
        weight_decay=stage.optim.weight_decay,
        fused=device.type == "cuda",
    )
    is_cuda = device.type == "cuda"
    use_compile = machine.compile == "on" or (machine.compile == "auto" and is_cuda)
    use_bf16 = machine.amp == "bf16" or (machine.amp == "auto" and is_cuda)
    # As they turned out: a run that began in bfloat16 must not go on in float32 unnoticed.
    stage = replace(stage, settings={**stage.settings, "bf16": use_bf16, "compile": use_compile})
    schedule = Schedule(optim=stage.optim, steps_per_epoch=stage.steps_per_epoch)
    first = _resume(path, stage, optimizer, schedule)
    if first >= stage.optim.steps:
        print(f"{stage.name}: already trained ({first} steps)")
        return path
    remember_config(folder.parent, config)
    if first == 0:
        publish_bytes(folder / CONFIG, dump_yaml(config).encode())
        # A checkpoint before the first step claims the folder for these settings.
        _save(path, stage, optimizer, schedule, 0)
    if use_compile:
        stage.model.get_submodule("backbone").compile()
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=use_bf16)

    with ExitStack() as stack:
        streams = [stack.enter_context(closing(x.stream(first))) for x in stage.loaders]
        log = stack.enter_context(MetricsLog(folder / METRICS, keep=first))
        bar = stack.enter_context(ProgressBar(stage.name, stage.optim.steps))
        stop = stack.enter_context(preemption())
        for step in range(first, stage.optim.steps):
            began_s = time.perf_counter()
            batches = tuple(next(stream) for stream in streams)
            loaded_s = time.perf_counter()
            rate = schedule.lr(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast:
                terms = stage.loss(batches)
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            values = {name: term.item() for name, term in terms.items()}
            _check_finite(values["loss"], step, batches, path)
            schedule.observe(step, values["loss"])
            ended_s = time.perf_counter()
            num_videos = sum(len(batch.keys) for batch in batches)
            log.write(
                {
                    "step": step,
                    **values,
                    "lr": rate,
                    "num_padded": int(sum(batch.plan.padded.sum() for batch in batches)),
                    "data_wait_s": loaded_s - began_s,
                    "step_s": ended_s - began_s,
                    "videos_per_s": num_videos / (ended_s - began_s),
                }
            )
            bar.update(step + 1, f"loss {values['loss']:.3f}")
            is_last = step + 1 == stage.optim.steps
            if is_last or stop.requested or (step + 1) % machine.checkpoint_steps == 0:
                log.sync()
                _save(path, stage, optimizer, schedule, step + 1)
            if stop.requested:
                print(f"{stage.name}: told to end; saved at step {step + 1}", file=sys.stderr)
                sys.exit(EXIT_CODE)
    return path


def _device(stage: Stage) -> torch.device:
    return stage.loaders[0].device


def _save(
    path: Path, stage: Stage, optimizer: torch.optim.Optimizer, schedule: Schedule, step: int
) -> None:
    state: dict[str, Any] = {
        "stage": stage.name,
        "backbone": stage.backbone,
        "classes": stage.classes,
        "settings": json.dumps(stage.settings, sort_keys=True),
        "step": step,
        "steps": stage.optim.steps,
        "model": stage.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state(),
        "random": torch.get_rng_state(),
    }
    if _device(stage).type == "cuda":
        state["cuda_random"] = torch.cuda.get_rng_state(_device(stage))
    save_checkpoint(path, state)


def _resume(path: Path, stage: Stage, optimizer: torch.optim.Optimizer, schedule: Schedule) -> int:
    """Loads the run in progress, if any, and returns its next step."""
    if not path.exists():
        return 0
    state = load_checkpoint(path)
    _check_settings(path, json.loads(state["settings"]), stage.settings)
    stage.model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.restore(state["schedule"])
    torch.set_rng_state(state["random"])
    if "cuda_random" in state and _device(stage).type == "cuda":
        torch.cuda.set_rng_state(state["cuda_random"], _device(stage))
    step = int(state["step"])
    if 0 < step < stage.optim.steps:
        print(f"{stage.name}: goes on at step {step} of {stage.optim.steps}")
    return step


def _check_settings(path: Path, before: Tree, now: Tree) -> None:
    old, new = _flatten(before), _flatten(now)
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputError(
            f"{path.parent}: holds a run with other settings: {key} was {old.get(key)!r}, now "
            f"{new.get(key)!r}{more}; choose another --out, or delete that folder"
        )


def _flatten(tree: Tree, prefix: str = "") -> Tree:
    flat: Tree = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _check_finite(loss: float, step: int, batches: tuple[Batch, ...], path: Path) -> None:
    if not math.isfinite(loss):
        keys = ", ".join(key for batch in batches for key in batch.keys)
        raise TrainingError(
            f"loss is {loss} at step {step}; videos of the batch: {keys}; last good checkpoint: "
            f"{path}; begin another --out with a lower optim.lr of that stage, or more warmup_steps"
        )
