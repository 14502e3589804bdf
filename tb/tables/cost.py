"""Estimates the cost of a table's runs, from measured steps."""

import time
from functools import cache
from pathlib import Path
from statistics import median

import torch

from shards.counted import counted
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.stages import stage_optim, stage_views
from tb.method.streams import training_device
from tb.networks.backbones import backbone_identity, identified_backbone
from tb.networks.heads import to_channels_last
from tb.stage_kinds import StageKind
from tb.tables.grid import Grid, Unit, findings
from tb.training.precision import Precision, precision_of

# Only forward passes without gradients are measured, because they keep no activations: a whole
# step of slow_r50 at 224 px does not fit into a laptop's memory. The backward pass computes two
# gradients. Each takes as many multiplications as the forward pass, so a step costs three passes.
_PASSES = 3
_NUM_TIMES = 3
# The cost of a step relative to supervised training: 1 for each batch of clips that trains the
# network, 1/3 for each further forward pass (two teachers on two batches; the running mean on one).
_FACTORS = {
    StageKind.STUDENT: 2 + 4 / 3,
    StageKind.PSEUDO_LABEL: 2,
    StageKind.FIXMATCH: 3,
    StageKind.MEAN_TEACHER: 2 + 1 / 3,
}


def cost_table(grid: Grid, manifest: Manifest, out: Path) -> str:
    """The units by kind, with their steps and hours, as text.

    Seconds per step come from units of the same kind that have run in `out`. Where there are none,
    forward passes of the network are measured now, on this machine (eager; compiled steps are
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
        steps = stage_optim(kind, units[0].config).steps
        left = sum(unit.key not in found for unit in units)
        seen = [found[unit.key].step_s for unit in units if unit.key in found]
        step_s = median(seen) if seen else _estimate(kind, units[0].config)
        hours = left * steps * step_s / 3600
        total_h += hours
        mark = "" if seen else "*"
        lines.append(
            f"{kind.value:<22}{len(units):>6}{len(units) - left:>6}{steps:>12}"
            f"{step_s:>10.3f}{mark:1}{hours:>12.2f}"
        )
    device = training_device(grid.units[0].config)
    on_gpu = device.type == "cuda"
    where = torch.cuda.get_device_name(device) if on_gpu else "this CPU"
    lines += [
        f"{'all':<22}{len(grid.units):>6}{len(found):>6}{'':>12}{'':>11}{total_h:>12.2f}",
        f"* measured now on {where}: the fastest of {_NUM_TIMES} eager forward passes of"
        f" {counted(_num_clips(device), 'clip')}, times the clips of a batch, times {_PASSES}"
        " (a backward pass counts as two forward passes). The others are from runs in this folder."
        " Loading and evaluation are not counted.",
    ]
    return "\n".join(lines)


def _estimate(kind: StageKind, config: Config) -> float:
    """Seconds of one step."""
    views = stage_views(kind, config)
    num_clips = stage_optim(kind, config).batch_size * views.num_views
    device = training_device(config)
    precision = precision_of(config.machine, device)
    identity = backbone_identity(config.backbone)
    clip_s = _clip_s(identity, device, precision, views.num_frames, views.size_px)
    return _PASSES * num_clips * clip_s * _FACTORS.get(kind, 1)


@cache
def _clip_s(
    backbone: str, device: torch.device, precision: Precision, num_frames: int, size_px: int
) -> float:
    """Seconds of a clip's forward pass through the backbone; the cost of a head is negligible."""
    model = to_channels_last(identified_backbone(backbone)).to(device).train()
    clips = torch.rand((_num_clips(device), 3, num_frames, size_px, size_px), device=device)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    times = []
    with torch.no_grad(), precision.autocast(device):
        for _ in range(_NUM_TIMES):
            began_s = time.perf_counter()
            model(clips).sum().item()  # `item` waits for a GPU
            times.append(time.perf_counter() - began_s)
    return min(times) / len(clips)


def _num_clips(device: torch.device) -> int:
    """How many clips are measured at once: one clip needs little memory, but leaves a GPU idle."""
    return 8 if device.type == "cuda" else 1
