"""The streams of videos that stages train on: which videos, as which views."""

from dataclasses import dataclass

import torch

from loaders import Loader, Part, TryLayouts, ViewSpec, open_loader
from loaders.devices import usable_device
from loaders.engines.choice import EngineName, engine_name
from loaders.plan import stage_views
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config, Optim
from tb.training.distributed import join
from tb.training.precision import precision_of


def pretrain_views(config: Config) -> ViewSpec:
    """The long and short views of stage 1."""
    clips = config.pretrain.clips
    return stage_views.pretrain(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def clip_views(config: Config) -> ViewSpec:
    """The clip of stages 2 and 3."""
    clips = config.classify.clips
    return stage_views.finetune(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def training_device(config: Config) -> torch.device:
    """Where this process trains."""
    return usable_device(join().device(config.machine.device))


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Some of the training videos, as some views.

    Attributes:
        part: The part of the training videos.
        spec: The views of each video.
    """

    part: Part
    spec: ViewSpec


def open_stream(stream: Stream, manifest: Manifest, config: Config, optim: Optim) -> Loader:
    """The loader of this process's share of a stream; the caller closes it.

    Args:
        stream: The videos and their views.
        manifest: The data set.
        config: Labels, seed and machine.
        optim: The stage's section `optim`, for the batch size.
    """
    world, device, machine = join(), training_device(config), config.machine
    layout = None
    if machine.tune:
        if engine_name(machine.engine, str(device), manifest.distinct_codecs) != EngineName.DALI:
            raise InputError(
                "machine.tune tries layouts of the engine dali, which does not run here; "
                "--set machine.tune=false"
            )
        layout = TryLayouts(gpu_memory_mb=machine.gpu_memory_mb)
    return open_loader(
        manifest,
        stream.spec,
        normalization=config.normalization,
        subset=config.labels.subset(stream.part),
        batch_size=optim.piece_size(world.size),
        engine=machine.engine,
        device=str(device),
        dtype=precision_of(machine, device).loader_dtype,
        seed=machine.seed,
        order=machine.order,
        cache=machine.cache,
        rank=world.rank,
        world_size=world.size,
        num_workers=world.num_workers(machine.num_workers),
        in_process=machine.in_process,
        layout=layout,
        on_error=machine.fault_policy,
    )
