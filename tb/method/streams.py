"""The streams of videos that stages train on: which videos, as which views."""

from loaders import Loader, ViewSpec, open_loader
from loaders.loader import usable_device
from loaders.plan import views
from loaders.subset import Part
from shards.format.manifest import Manifest
from tb.config.sections import Config, Optim
from tb.training.distributed import join
from tb.training.precision import precision_of


def pretrain_views(config: Config) -> ViewSpec:
    """The long and short views of stage 1."""
    clips = config.pretrain.clips
    return views.pretrain(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def clip_views(config: Config) -> ViewSpec:
    """The clip of stages 2 and 3."""
    clips = config.classify.clips
    return views.finetune(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def stage_loader(
    manifest: Manifest, spec: ViewSpec, part: Part, config: Config, optim: Optim
) -> Loader:
    """The training videos of one part, as this process's share of the stage's batches.

    Args:
        manifest: The data set.
        spec: The views.
        part: Which of the training videos.
        config: Labels, seed and machine.
        optim: The stage's; it has the batch size.
    """
    world = join()
    device = usable_device(world.device(config.machine.device))
    return open_loader(
        manifest,
        spec,
        subset=config.labels.subset(part),
        batch_size=optim.piece_size(world.size),
        engine=config.machine.engine,
        device=str(device),
        dtype=precision_of(config.machine, device).loader_dtype,
        seed=config.machine.seed,
        order=config.machine.order,
        rank=world.rank,
        world_size=world.size,
        num_workers=world.num_workers(config.machine.num_workers),
        tune=config.machine.tune,
        gpu_memory_mb=config.machine.gpu_memory_mb,
    )
