"""The streams of videos that stages train on: which videos, as which views."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from loaders import DaliViews, Loader, Part, TryLayouts, ViewSpec, open_loader
from loaders.devices import usable_device
from loaders.engines.choice import EngineChoice, log_choice, unmeasured_choice
from loaders.engines.dali.layout import Layout
from loaders.engines.engine import AUTO, EngineName
from loaders.plan import stage_views
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.optim import Optim
from tb.config.sections import Config
from tb.training.distributed import join, of_main
from tb.training.engine_record import recorded_engine, with_engine
from tb.training.precision import precision_of


def pretrain_views(config: Config) -> ViewSpec:
    """The long and short views of phase 1."""
    clips = config.pretrain.clips
    return stage_views.pretrain(
        num_frames=clips.num_frames,
        stride=clips.stride,
        stride_s=clips.stride_s,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def clip_views(config: Config) -> ViewSpec:
    """The clip of stages 2 and 3."""
    clips = config.classify.clips
    return stage_views.finetune(
        num_frames=clips.num_frames,
        stride=clips.stride,
        stride_s=clips.stride_s,
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


def stage_engine(
    spec: ViewSpec, manifest: Manifest, config: Config, optim: Optim, folder: Path
) -> EngineChoice:
    """The engine of a stage: the one with which its run began, unless the settings name another.

    For a new run, "auto" is measured with the stage's views (see `open_loader`). Rank 0 measures,
    and all processes take its engine.

    Args:
        spec: The views of the stage.
        manifest: The data set.
        config: `config.machine` says which engine.
        optim: The stage's section `optim`, for the batch size.
        folder: The run's folder, which may hold a run.

    Raises:
        InputError: There is no engine of that name, the record of the run is not readable, or
            `machine.dali_views` or `machine.tune` is given and the engine is not dali.
    """
    recorded = recorded_engine(folder, manifest, config)
    choice = recorded
    if choice is None or config.machine.engine not in (AUTO, choice.name):
        choice = _chosen_engine(spec, manifest, config, optim)
    if not choice.name.has_pipelines:
        if config.machine.dali_views is not None:
            raise InputError(
                f"machine.dali_views is for the engine dali, and this is {choice.name}"
                f" ({choice.why}): --set machine.dali_views=null"
            )
        return choice
    views = config.machine.dali_views or (recorded and recorded.views)
    return replace(choice, views=views or _chosen_views(spec, manifest, config, optim))


def _chosen_views(spec: ViewSpec, manifest: Manifest, config: Config, optim: Optim) -> DaliViews:
    """What makes dali's views in a new run: operators, or with `machine.tune` what rank 0 finds."""
    if not config.machine.tune:
        return DaliViews.OPERATORS
    from loaders.engines.dali.engine import DaliEngine  # slow, and DALI is an extra

    names, views = list(DaliViews), DaliViews.OPERATORS
    if join().is_main:
        choice = EngineChoice(name=EngineName.DALI, why="layouts are tried")
        stream = Stream(part=Part.ALL, spec=spec)
        with open_stream(stream, manifest, with_engine(config, choice), optim) as loader:
            assert isinstance(loader.engine, DaliEngine)
            views = DaliViews(loader.engine.layout.views)
    return names[of_main(names.index(views))]


def _chosen_engine(
    spec: ViewSpec, manifest: Manifest, config: Config, optim: Optim
) -> EngineChoice:
    """The engine of a new run."""
    world, machine = join(), config.machine
    codecs = manifest.distinct_codecs
    choice = unmeasured_choice(machine.engine, str(training_device(config)), codecs)
    if choice is not None:
        if machine.tune and not choice.name.has_pipelines:
            raise InputError(
                "machine.tune tries layouts of the engine dali, and this is"
                f" {choice.name} ({choice.why}): --set machine.tune=false"
            )
        if world.is_main and machine.engine == AUTO:
            log_choice(choice)
        return choice
    if world.is_main:
        untuned = config.model_copy(update={"machine": machine.model_copy(update={"tune": False})})
        with open_stream(Stream(part=Part.ALL, spec=spec), manifest, untuned, optim) as loader:
            choice = loader.choice
    names = list(EngineName)
    name = names[of_main(names.index(choice.name) if choice is not None else 0)]
    return choice or EngineChoice(name=name, why="rank 0 chose it")


def _in_process(config: Config) -> bool:
    """Whether the loader's threads run in the process that trains; by default they do not."""
    return False if config.machine.in_process is None else config.machine.in_process


def open_stream(stream: Stream, manifest: Manifest, config: Config, optim: Optim) -> Loader:
    """The loader of this process's share of a stream; the caller closes it.

    Args:
        stream: The videos and their views.
        manifest: The data set.
        config: Labels, seed and machine.
        optim: The stage's section `optim`, for the batch size.
    """
    world, device, machine = join(), training_device(config), config.machine
    layout: Layout | None = machine.dali_views
    if machine.tune:
        layout = TryLayouts(gpu_memory_mb=machine.gpu_memory_mb, views=machine.dali_views)
    return open_loader(
        manifest,
        stream.spec,
        normalization=config.normalization,
        subset=config.labels.subset(stream.part),
        batch_size=optim.piece_size(world.size),
        clips_per_video=optim.clips_per_video,
        engine=machine.engine,
        device=str(device),
        dtype=precision_of(machine, device).loader_dtype,
        seed=machine.seed,
        order=machine.order,
        cache=machine.cache,
        rank=world.rank,
        world_size=world.size,
        num_workers=machine.num_workers,
        in_process=_in_process(config),
        lookahead_mb=machine.lookahead_mb,
        max_kept_batches=machine.max_kept_batches,
        layout=layout,
        on_error=machine.fault_policy,
    )
