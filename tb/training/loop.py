"""The training loop: one for every stage, readable from top to bottom.

A step number is the whole position of a run: the loaders' streams, the learning rate and the log
are functions of it. A checkpoint adds the weights, the optimiser, the schedule's memory and the
random state, so that a run which was killed goes on bit for bit (on a CPU).
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn

from loaders.loader import Batch, Loader
from shards.errors import InputError
from shards.files.lock import locked
from shards.files.publish import publish_bytes
from tb.config.settings import CONFIG, Config, Machine, Optim, Tree, dump_yaml, remember_config
from tb.networks.models import Backbone
from tb.progress import ProgressBar
from tb.training.distributed import World, barrier, join, mean, share_weights
from tb.training.memory import checkpoint_activations
from tb.training.optimizer import Optimizer, Weights, copy_weights
from tb.training.preemption import EXIT_CODE, preemption
from tb.training.schedule import Schedule
from tb.training.settings import differences
from tb.training.tracking import check_installed, tracking
from tb.weights.checkpoint import CHECKPOINT, keep_last, load_checkpoint, save_checkpoint

# In a row: with each, float16 losses are scaled by half as much, from 65536 on.
_MAX_OVERFLOWS = 20


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
        loaders: One stream each; a step takes `optim.accumulate` batches of every stream.
        loss: One batch of every stream -> named scalars, among them "loss".
        average: A network like `model` that holds its weights' running mean (`optim.ema_decay`),
            for a loss that needs it.
        validate: Measures `model`, in eval mode, on videos held out: named scalars, the same on
            all processes, among them "val_loss". An epoch is judged by that then.
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
    average: nn.Module | None = None
    validate: Callable[[], dict[str, float]] | None = None

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self.loaders[0].device

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which the shortest stream runs once: most often the labelled one."""
        shortest = min(len(loader.rows) for loader in self.loaders)
        return max(1, round(shortest / self.optim.batch_size))


@dataclass(kw_only=True)
class Run:
    """A stage being trained: all that changes, and that a checkpoint holds.

    Attributes:
        stage: The stage.
        path: Its checkpoint.
        optimizer: Updates the weights.
        schedule: Says how fast.
        best_loss: The lowest loss of an epoch, under `select` "best".
        best_weights: The weights after that epoch.
    """

    stage: Stage
    path: Path
    optimizer: Optimizer
    schedule: Schedule
    best_loss: float = math.inf
    best_weights: Weights | None = None

    def observe(self, step: int, loss: float) -> dict[str, float]:
        """Takes the loss of `step`; at an epoch's end, keeps the weights if they are the best.

        Returns:
            What was measured on the held-out videos, if so, and how long that took ("val_s").
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
        if self.stage.optim.select == "best" and epoch_loss < self.best_loss:
            self.best_loss = epoch_loss
            self.best_weights = copy_weights(self.optimizer.weights)
        return found

    def save(self, step: int, num_kept: int) -> None:
        """Writes the checkpoint after `step` steps, so that it reads as the result if it is one."""
        device = self.stage.device
        state: dict[str, Any] = {
            "stage": self.stage.name,
            "backbone": self.stage.backbone,
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
        if self.best_weights is not None:
            if step == self.stage.optim.steps:
                state |= {"model": self.best_weights, "raw": state.get("raw", state["model"])}
            else:
                state["best"] = {"loss": self.best_loss, "weights": self.best_weights}
        save_checkpoint(self.path, state)
        keep_last(self.path, step, num_kept)

    def resume(self) -> int:
        """Loads the run in progress, if any, and returns its next step."""
        if not self.path.exists():
            return 0
        state, device = load_checkpoint(self.path), self.stage.device
        _check_settings(self.path, json.loads(state["settings"]), self.stage.settings)
        step = int(state["step"])
        if step >= self.stage.optim.steps:
            return step
        self.optimizer.restore(state)
        self.schedule.restore(state["schedule"])
        torch.set_rng_state(state["random"])
        if "cuda_random" in state and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_random"], device)
        if "best" in state:
            best = state["best"]
            self.best_loss = best["loss"]
            self.best_weights = {name: value.to(device) for name, value in best["weights"].items()}
        return step


def train(stage: Stage, work: Path, config: Config, *, remember: bool = True) -> Path:
    """Trains a stage to its last step, from its last checkpoint where there is one.

    Args:
        stage: What to train.
        work: The work folder; the run lives in WORK/STAGE.
        config: All settings, for the record; `config.machine` says how to run.
        remember: Make them the work folder's own.

    Returns:
        The final checkpoint.

    Raises:
        InputError: WORK/STAGE holds a run with other settings, or another process trains there.
        TrainingError: The loss or the gradient is not finite, or memory ran out.
        SystemExit: With code 143, after SIGTERM and a checkpoint.
    """
    check_installed(config.machine)
    folder, world = work / stage.name, join()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if world.is_main:
            complaint = f"{folder}: another process trains there"
            # A killed parent's child needs a moment to notice.
            stack.enter_context(locked(folder / ".lock", complaint, patience_s=5))
        return _train(stage, folder, config, world, remember)


def _train(stage: Stage, folder: Path, config: Config, world: World, remember: bool) -> Path:
    machine, path, steps = config.machine, folder / CHECKPOINT, stage.optim.steps
    machine.limit_threads()
    amp, compile_mode = precision(machine, stage.device), _compile_mode(machine, stage.device)
    # As they turned out: a run that began in bfloat16 must not go on in float32 unnoticed.
    how = {"amp": amp, "compile": compile_mode, "sync_bn": machine.sync_bn}
    stage = replace(stage, settings={**stage.settings, **how})
    _prepare(stage, machine, world)
    run = Run(
        stage=stage,
        path=path,
        optimizer=Optimizer(
            stage.model, stage.optim, stage.device, fp16=amp == "fp16", average=stage.average
        ),
        schedule=Schedule(optim=stage.optim, steps_per_epoch=stage.steps_per_epoch),
    )
    first = run.resume()
    _check_shared(folder, first)
    if first >= steps:
        _say(world, f"{stage.name}: already trained ({first} steps)")
        return path
    if first > 0:
        _say(world, f"{stage.name}: goes on at step {first} of {steps}")
    if world.is_main and remember:
        remember_config(folder.parent, config)
    if world.is_main and first == 0:
        publish_bytes(folder / CONFIG, dump_yaml(config).encode())
        # A checkpoint before the first step claims the folder for these settings.
        run.save(0, machine.keep_last)
    if world.size > 1:
        share_weights(stage.model)
    if compile_mode != "off":
        for module in stage.model.modules():
            if isinstance(module, Backbone):
                # A stage has few shapes: one graph for each kind of view, one for validation.
                module.compile(mode=compile_mode, dynamic=False)
    with _naming_memory_settings(path):
        _loop(run, config, world, first, amp)
    barrier()
    return path


def _loop(run: Run, config: Config, world: World, first: int, amp: str) -> None:
    """Steps from `first` to the last."""
    stage, machine, optim, device = run.stage, config.machine, run.stage.optim, run.stage.device
    autocast = autocast_of(amp, device)
    overflows = 0
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(x.stream(first * optim.accumulate))) for x in stage.loaders
        ]
        log = None
        if world.is_main:
            log = stack.enter_context(tracking(run.path.parent, config, first=first))
        bar = stack.enter_context(ProgressBar(stage.name, optim.steps, quiet=not world.is_main))
        stop = stack.enter_context(preemption())
        for step in range(first, optim.steps):
            began_s = time.perf_counter()
            if world.size > 1:
                # Dropout differs between processes, and is known at any step.
                torch.manual_seed(_seed(machine.seed, step, world.rank))
            seen = _backward(run, streams, autocast)
            rate = run.schedule.lr(step)
            norm = run.optimizer.step(step, rate)
            told = torch.tensor([seen.num_padded, stop.requested]).to(norm)
            # One vector, so that the processes agree at the cost of one message.
            facts = mean(torch.stack([*seen.terms.values(), norm, *told])).tolist()
            *terms, grad_norm, num_padded, stopping = facts
            values = dict(zip(seen.terms, terms, strict=True)) | {"grad_norm": grad_norm}
            overflowed = amp == "fp16" and not math.isfinite(grad_norm)
            overflows = overflows + 1 if overflowed else 0
            may_overflow = 0 < overflows <= _MAX_OVERFLOWS
            step_s = time.perf_counter() - began_s
            values |= run.observe(step, values["loss"])
            _check_finite(values, step, seen.keys, run.path, may_overflow=may_overflow)
            row = {
                "step": step,
                **values,
                "lr": rate,
                "num_padded": round(num_padded * world.size),
                "data_wait_s": seen.wait_s,
                "step_s": step_s,
                "videos_per_s": len(seen.keys) * world.size / step_s,
            }
            if amp == "fp16":
                row["overflowed"] = int(overflowed)
            if device.type == "cuda":
                row["gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
            bar.update(step + 1, f"loss {values['loss']:.3f}")
            is_last = step + 1 == optim.steps
            is_due = is_last or stopping or (step + 1) % machine.checkpoint_steps == 0
            if log is not None:
                log.write(row)
                if is_due:
                    log.sync()
                    run.save(step + 1, machine.keep_last)
            if stopping:
                # Not before it is saved: a launcher kills the rest once one process has left.
                barrier()
                _say(world, f"{stage.name}: told to end; saved at step {step + 1}", sys.stderr)
                sys.exit(EXIT_CODE)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a step saw: the means of its terms, its videos, and how long it waited for them."""

    terms: dict[str, Tensor]
    keys: list[str]
    num_padded: int
    wait_s: float


def _backward(run: Run, streams: Sequence[Iterator[Batch]], autocast: torch.autocast) -> _Seen:
    """The gradient of one step, piece by piece."""
    num_pieces = run.stage.optim.accumulate
    terms, keys, num_padded, wait_s = dict[str, Tensor](), list[str](), 0, 0.0
    for _ in range(num_pieces):
        asked_s = time.perf_counter()
        batches = tuple(next(stream) for stream in streams)
        wait_s += time.perf_counter() - asked_s
        with autocast:
            found = run.stage.loss(batches)
        run.optimizer.backward(found["loss"] / num_pieces)
        for name, term in found.items():
            share = term.detach().float() / num_pieces
            terms[name] = terms[name] + share if name in terms else share
        keys += [key for batch in batches for key in batch.keys]
        num_padded += int(sum(batch.plan.padded.sum() for batch in batches))
    return _Seen(terms=terms, keys=keys, num_padded=num_padded, wait_s=wait_s)


def precision(machine: Machine, device: torch.device) -> str:
    """What `machine.amp` comes to on a device: "bf16", "fp16" or "off"."""
    if machine.amp != "auto":
        return machine.amp
    if device.type != "cuda":
        return "off"
    # Older GPUs emulate bfloat16, slowly.
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast_of(amp: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass under a `precision`."""
    dtype = torch.float16 if amp == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=amp != "off")


def _compile_mode(machine: Machine, device: torch.device) -> str:
    """torch.compile's mode, or "off"."""
    is_on = machine.compile == "on" or (machine.compile == "auto" and device.type == "cuda")
    return machine.compile_mode if is_on else "off"


def _prepare(stage: Stage, machine: Machine, world: World) -> None:
    """Makes the networks ready for training, in place."""
    stage.model.to(stage.device).train()
    if stage.average is not None:
        stage.average.to(stage.device).eval().requires_grad_(False)
    if machine.activation_checkpointing and not checkpoint_activations(stage.model):
        raise InputError(
            f"backbone {stage.backbone!r} has no residual blocks to recompute; "
            "--set machine.activation_checkpointing=false"
        )
    if machine.sync_bn and world.size > 1:
        if stage.device.type == "cpu":
            raise InputError("machine.sync_bn works on GPUs only; --set machine.sync_bn=false")
        nn.SyncBatchNorm.convert_sync_batchnorm(stage.model)  # type: ignore[no-untyped-call]


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def _say(world: World, text: str, file: TextIO | None = None) -> None:
    if world.is_main:
        print(text, file=file)


def _check_shared(folder: Path, step: int) -> None:
    """Raises InputError where the processes do not see the same checkpoint."""
    if mean(torch.tensor(float(step))).item() != step:
        raise InputError(
            f"{folder}: not every process sees the same checkpoint there; give an --out on storage "
            "that all machines share"
        )


def _check_settings(path: Path, before: Tree, now: Tree) -> None:
    changed = differences(before, now)
    if changed:
        key, old, new = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputError(
            f"{path.parent}: holds a run with other settings: {key} was {old!r}, now {new!r}{more};"
            " choose another --out, or delete that folder"
        )


def _check_finite(
    values: dict[str, float], step: int, keys: list[str], path: Path, *, may_overflow: bool
) -> None:
    """Raises TrainingError where the loss is not finite, or the gradient; that one may overflow."""
    for name in ("loss", "grad_norm", "val_loss"):
        value = values.get(name, 0.0)
        if math.isfinite(value) or (name == "grad_norm" and may_overflow):
            continue
        raise TrainingError(
            f"{name} is {value} at step {step}; videos of the batch: {', '.join(keys)}; "
            f"last good checkpoint: {path}; begin another --out with a lower optim.lr of that "
            "stage, more warmup_steps, or clip_norm=1"
        )


@contextmanager
def _naming_memory_settings(path: Path) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise TrainingError(
            f"out of memory ({reason}); --set machine.activation_checkpointing=true goes on from "
            f"{path}; or begin another --out with a higher optim.accumulate of that stage (the "
            "same batch in more pieces), a lower optim.batch_size, or a lower clips.size_px"
        ) from error
