"""What a grid of runs would cost, from measured steps."""

import time
from pathlib import Path
from statistics import median

import torch

from shards.format.manifest import Manifest
from tb.config.settings import Config, Machine
from tb.method import stages
from tb.tables.grid import Grid, Unit, findings
from tb.training.loop import Stage, autocast_of, precision

# A measured batch is small, so that any network at any size fits; time grows with it linearly, or
# less: the estimate errs on the dear side.
_BATCH_SIZE = 2
_NUM_STEPS = 3
# A step against one of supervised training: streams that go through the network, and a third for
# each forward pass alone (of both teachers for both streams; of the running mean for one).
_FACTORS = {"student": 2 + 4 / 3, "pseudo-label": 2, "fixmatch": 3, "mean-teacher": 2 + 1 / 3}


def cost_table(grid: Grid, manifest: Manifest, out: Path) -> str:
    """The units by kind with their steps and hours, as text.

    Seconds per step come from units of the same kind that have run in OUT, else from a few steps
    made now, on this machine, at a small batch (eager; compiled steps are faster).
    """
    found = findings(grid, manifest, out)
    kinds: dict[str, list[Unit]] = {}
    for unit in grid.units:
        kinds.setdefault(unit.kind, []).append(unit)
    lines = [
        f"{'stage':<22}{'runs':>6}{'done':>6}{'steps each':>12}{'s/step':>11}{'hours left':>12}"
    ]
    total_h = 0.0
    for kind, units in kinds.items():
        steps = _steps(units[0])
        left = sum(unit.key not in found for unit in units)
        seen = [found[unit.key]["step_s"] for unit in units if unit.key in found]
        step_s = median(seen) if seen else _measure(kind, units[0].config, manifest)
        hours = left * steps * step_s / 3600
        total_h += hours
        mark = "" if seen else "*"
        lines.append(
            f"{kind:<22}{len(units):>6}{len(units) - left:>6}{steps:>12}{step_s:>10.3f}{mark:1}"
            f"{hours:>12.2f}"
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
    if not unit.classifies:
        return config.pretrain.optim.steps
    return (config.finetune if unit.kind.startswith("finetune-") else config.student).optim.steps


def _measure(kind: str, config: Config, manifest: Manifest) -> float:
    """Seconds of one step at the config's batch size."""
    small = {"optim": {"batch_size": _BATCH_SIZE}}
    if kind in stages.SELF_SUPERVISED:
        full = config.pretrain.optim.batch_size
        stage = stages.pretrain_stage(kind, manifest, _with(config, pretrain=small))
    else:
        part = config.finetune if kind.startswith("finetune-") else config.student
        full = part.optim.batch_size
        stage = stages.supervised_stage(manifest, _with(config, student=small))
    return _time_steps(stage, config.machine) * full / _BATCH_SIZE * _FACTORS.get(kind, 1)


def _with(config: Config, **changes: dict[str, dict[str, int]]) -> Config:
    tree = config.model_dump()
    for section, parts in changes.items():
        for part, values in parts.items():
            tree[section][part] |= values
    return Config.model_validate(tree)


def _time_steps(stage: Stage, machine: Machine) -> float:
    (loader,) = stage.loaders
    stage.model.to(loader.device).train()
    is_cuda = loader.device.type == "cuda"
    autocast = autocast_of(precision(machine, loader.device), loader.device)
    times = []
    stream = loader.stream()
    try:
        for _ in range(_NUM_STEPS):
            batch = next(stream)
            began_s = time.perf_counter()
            with autocast:
                loss = stage.loss((batch,))["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()
            if is_cuda:
                torch.cuda.synchronize(loader.device)
            times.append(time.perf_counter() - began_s)
    finally:
        stream.close()
    return min(times)
