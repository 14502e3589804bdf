"""Prepares networks for training: device, recomputation, synchronised batch norm, compilation."""

import torch
from torch import nn

from shards.errors import InputError
from tb.config.sections import Compile, Machine
from tb.networks.backbones import Backbone
from tb.training.activation_checkpointing import checkpoint_activations
from tb.training.stage import Stage
from tb.training.world import World

NOT_COMPILED = "off"


def prepare(stage: Stage, machine: Machine, world: World) -> None:
    """Makes the stage's networks ready for training, in place."""
    stage.model.to(stage.device).train()
    if stage.average is not None:
        stage.average.to(stage.device).eval().requires_grad_(False)
    if machine.activation_checkpointing and not checkpoint_activations(stage.model):
        raise InputError(
            f"backbone {stage.model.backbone.identity!r} has no residual blocks to recompute; "
            "--set machine.activation_checkpointing=false"
        )
    if machine.sync_bn and world.size > 1:
        if stage.device.type == "cpu":
            raise InputError("machine.sync_bn works on GPUs only; --set machine.sync_bn=false")
        nn.SyncBatchNorm.convert_sync_batchnorm(stage.model)  # type: ignore[no-untyped-call]


def compile_mode(machine: Machine, device: torch.device) -> str:
    """torch.compile's mode, or `NOT_COMPILED`."""
    is_on = machine.compile == Compile.ON or (
        machine.compile == Compile.AUTO and device.type == "cuda"
    )
    return machine.compile_mode if is_on else NOT_COMPILED


def compile_backbones(stage: Stage, mode: str) -> None:
    """Compiles the backbones of all networks that a step runs, unless `mode` is `NOT_COMPILED`."""
    if mode == NOT_COMPILED:
        return
    networks = [stage.model, *stage.frozen]
    if stage.average is not None:
        networks.append(stage.average)
    for network in networks:
        for module in network.modules():
            if isinstance(module, Backbone):
                # A stage has few shapes: one graph for each kind of view, one for validation.
                module.compile(mode=mode, dynamic=False)
