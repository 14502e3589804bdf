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
# The modes that capture CUDA graphs. Replaying a graph is safe with any engine, because its inputs
# are copied to the graph's own memory. Capturing one fails if another thread waits for the whole
# GPU. Other calls of other threads do no harm, because torch.compile captures in the mode
# "thread_local". So batches may be copied meanwhile (`loaders.transfer`).
GRAPH_MODES = ("reduce-overhead", "max-autotune")


def prepare(stage: Stage, machine: Machine, world: World) -> None:
    """Makes the stage's networks ready for training, in place."""
    stage.model.to(stage.device).train()
    if stage.average is not None:
        stage.average.to(stage.device).eval().requires_grad_(False)
    if stage.memory is not None:
        stage.memory.to(stage.device)
    if machine.activation_checkpointing and not checkpoint_activations(stage.model):
        raise InputError(
            f"backbone {stage.model.backbone.identity!r} has no residual blocks to recompute; "
            "--set machine.activation_checkpointing=false"
        )
    if machine.sync_bn and world.size > 1:
        if stage.device.type == "cpu":
            raise InputError("machine.sync_bn works on GPUs only; --set machine.sync_bn=false")
        nn.SyncBatchNorm.convert_sync_batchnorm(stage.model)  # type: ignore[no-untyped-call]


def compile_mode(machine: Machine, stage: Stage) -> str:
    """torch.compile's mode, or `NOT_COMPILED`.

    Raises:
        InputError: The mode captures CUDA graphs, and a loader's engine would break the capture.
    """
    device = stage.device
    is_on = machine.compile == Compile.ON or (
        machine.compile == Compile.AUTO and device.type == "cuda"
    )
    if not is_on:
        return NOT_COMPILED
    captures = device.type == "cuda" and machine.compile_mode in GRAPH_MODES
    if captures and any(loader.synchronizes_gpu for loader in stage.loaders):
        raise InputError(
            f"machine.compile_mode is {machine.compile_mode!r}, which captures CUDA graphs. The "
            "engine dali waits for the whole GPU at any time, and that ends a capture: --set "
            "machine.compile_mode=default (or max-autotune-no-cudagraphs), or machine.engine=fused"
        )
    return machine.compile_mode


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


def begin_step(mode: str) -> None:
    """Tells PyTorch that a step begins, if `mode` captures CUDA graphs.

    What the graphs wrote in the step before is valid until this call. Without it PyTorch treats
    each piece of a batch as a step, and the second piece overwrites the gradient of the first
    (pytorch#169545).
    """
    if mode in GRAPH_MODES:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
