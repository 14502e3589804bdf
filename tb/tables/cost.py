"""Estimates the cost of a table's runs, from measured steps."""

import time
from contextlib import closing
from pathlib import Path
from statistics import median

import torch

from shards.format.manifest import Manifest
from tb.config.sections import Config, Machine
from tb.method.baselines import supervised_only_stage
from tb.method.pretraining import pretrain_stage
from tb.stage_kinds import FINETUNED, SELF_SUPERVISED, StageKind
from tb.tables.grid import Grid, Unit, findings
from tb.training.optimizer import Optimizer
from tb.training.precision import Precision, precision_of
from tb.training.stage import Stage
from tb.training.step import Step
from tb.training.step_values import StepValues

# A measured batch is small, so that it fits on a GPU. On a CPU, the pretraining of slow_r50 at
# 112 px still takes 21 GB. Time grows with the batch at most linearly, so the estimate is rather
# too high.
_BATCH_SIZE = 2
_NUM_STEPS = 3
# The cost of a step against that of supervised training: 1 for each stream that goes through the
# network, 1/3 for each further forward pass (two teachers on two streams; the running mean on one).
_FACTORS = {
    StageKind.STUDENT: 2 + 4 / 3,
    StageKind.PSEUDO_LABEL: 2,
    StageKind.FIXMATCH: 3,
    StageKind.MEAN_TEACHER: 2 + 1 / 3,
}


def cost_table(grid: Grid, manifest: Manifest, out: Path) -> str:
    """The units by kind, with their steps and hours, as text.

    Seconds per step come from units of the same kind that have run in `out`. Where there are none,
    a few steps are measured now, on this machine, with a small batch (eager; compiled steps are
    faster).
    """
    found = findings(grid, manifest, out)
    kinds: dict[StageKind, list[Unit]] = {}
    for unit in grid.units:
        kinds.setdefault(unit.kind, []).append(unit)
    lines = [
        f"{'stage':<22}{'runs':>6}{'done':>6}{'steps each':>12}{'s/step':>11}{'hours left':>12}"
    ]
    total_h = 0.0
    for kind, units in kinds.items():
        steps = _steps(units[0])
        left = sum(unit.key not in found for unit in units)
        seen = [found[unit.key].step_s for unit in units if unit.key in found]
        step_s = median(seen) if seen else _measure(kind, units[0].config, manifest)
        hours = left * steps * step_s / 3600
        total_h += hours
        mark = "" if seen else "*"
        lines.append(
            f"{kind.value:<22}{len(units):>6}{len(units) - left:>6}{steps:>12}"
            f"{step_s:>10.3f}{mark:1}{hours:>12.2f}"
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "this CPU"
    lines += [
        f"{'all':<22}{len(grid.units):>6}{len(found):>6}{'':>12}{'':>11}{total_h:>12.2f}",
        f"* measured now on {device}, {_NUM_STEPS} eager steps at batch size {_BATCH_SIZE}, scaled;"
        " the others from runs in this folder. Evaluation is not counted.",
    ]
    return "\n".join(lines)


def _steps(unit: Unit) -> int:
    config = unit.config
    if not unit.kind.is_classifier:
        return config.pretrain.optim.steps
    return (config.finetune if unit.kind in FINETUNED else config.student).optim.steps


def _measure(kind: StageKind, config: Config, manifest: Manifest) -> float:
    """Seconds of one step at the config's batch size."""
    small = {"optim": {"batch_size": _BATCH_SIZE}}
    if kind in SELF_SUPERVISED:
        full = config.pretrain.optim.batch_size
        stage = pretrain_stage(kind, manifest, _with(config, pretrain=small))
    else:
        part = config.finetune if kind in FINETUNED else config.student
        full = part.optim.batch_size
        stage = supervised_only_stage(manifest, _with(config, student=small))
    with closing(stage):
        step_s = _time_steps(stage, config.machine)
    return step_s * full / _BATCH_SIZE * _FACTORS.get(kind, 1)


def _with(config: Config, **changes: dict[str, dict[str, int]]) -> Config:
    tree = config.model_dump()
    for section, parts in changes.items():
        for part, values in parts.items():
            tree[section][part] |= values
    return Config.model_validate(tree)


def _time_steps(stage: Stage, machine: Machine) -> float:
    (loader,) = stage.loaders
    stage.model.to(loader.device).train()
    if stage.memory is not None:
        stage.memory.to(loader.device)
    precision = precision_of(machine, loader.device)
    scales_loss = precision is Precision.FP16
    optimizer = Optimizer(stage.model, stage.optim, loader.device, scales_loss=scales_loss)
    times = []
    with closing(loader.stream()) as stream:
        for number in range(_NUM_STEPS):
            began_s = time.perf_counter()
            step = Step(
                values=StepValues(step=number, num_pieces=1),
                streams=[stream],
                optimizer=optimizer,
                rate=stage.optim.lr,
                autocast=precision.autocast(loader.device),
            )
            stage.step(step)
            if loader.device.type == "cuda":
                torch.cuda.synchronize(loader.device)
            times.append(time.perf_counter() - began_s - step.values.wait_s)
    return min(times)
