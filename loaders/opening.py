"""`open_loader` opens a shards folder as a `Loader`, and refuses unusable arguments."""

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from loaders.devices import usable_device
from loaders.engines.choice import EngineChoice, choose_engine
from loaders.engines.dali.layout import Layout
from loaders.engines.engine import EngineName
from loaders.engines.speeds import videos_per_s
from loaders.faults import OnError, Skip, skip_policy
from loaders.loader import Loader
from loaders.placement import Making
from loaders.plan.normalization import Normalization
from loaders.plan.order import Order, ShuffledOrder
from loaders.plan.planner import Planner
from loaders.plan.stage_views import view_spec
from loaders.plan.views import ViewSpec
from loaders.subset import Subset
from loaders.transfer import CudaCopyStream
from shards.cpus import num_cpus
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest


def open_loader(
    shards: Path | str | Manifest,
    views: str | ViewSpec,
    *,
    subset: Subset | None = None,
    batch_size: int = 8,
    seed: int = 0,
    shuffle: bool = True,
    order: ShuffledOrder | None = None,
    clips_per_video: int = 1,
    cache: bool = True,
    rank: int = 0,
    world_size: int = 1,
    size_px: int | None = None,
    normalization: str | Normalization | None = None,
    dtype: str = "float32",
    device: str = "auto",
    engine: str = "auto",
    num_workers: int | None = None,
    in_process: bool | None = None,
    lookahead_mb: int | None = None,
    max_kept_batches: int | None = None,
    layout: Layout | None = None,
    on_error: OnError | Skip = "raise",
) -> Loader:
    """Opens a shards folder for one stage. Close the loader, or use it in a `with` block.

    No argument is ignored: an argument that means nothing together with the others is refused.
    Settings that belong together are one argument: `Subset`, `ViewSpec`, `Normalization`, a layout,
    `Skip`. The function is long because each argument takes a line.

    Args:
        shards: Folder made by `tb shard`, its URL, or its manifest.
        views: A name (see `loaders.stage_views.NAMED_VIEWS`) or a `ViewSpec`.
        subset: The videos to serve; the whole train split by default. In an "unlabelled" part all
            labels are -1.

        batch_size: Videos per batch and rank.
        seed: The seed of order and augmentation, in [0, 2**63). Where nothing is random, all seeds
            give the same batches.
        shuffle: True for a new order each epoch, False for the manifest's order.
        order: How to shuffle: "global" (the default), or "windowed", which reads nearly
            sequentially, for remote or spinning storage (see `loaders.plan.order`).
        clips_per_video: Windows that are drawn of each video in an epoch, for long videos. This
            multiplies the batches of an epoch.
        cache: For remote shards: whether each shard is copied to this machine when it is first
            needed. With False, each epoch requests only the bytes that it shows.
        rank: This process's place among `world_size`.
        world_size: Number of processes that share each global batch.

        size_px: Overrides the output size of `views`.
        normalization: Overrides the last step of `views`: "kinetics", "pytorchvideo", "imagenet",
            "none" for RGB in [0, 1], or a `Normalization`.
        dtype: The type of the views: "float32", "float16", or without normalization "uint8".
        device: A torch device, or "auto": CUDA where there is one.

        engine: What makes the pixels: "dali", "fused", "reference" (slow; the oracle), or "auto".
            On a GPU that decodes these videos, "auto" is dali if it is twice as fast as fused,
            because a training is slower beside dali. The speeds are measured once for each kind
            of views, and kept. In all other cases "auto" is fused.
        num_workers: Number of threads; one per usable core by default. If `world_size` is above 1,
            the processes of a machine share its cores, and LOCAL_WORLD_SIZE, which torchrun sets,
            says how many they are.
        in_process: Whether the threads run in this process. With False they run in the loader
            process, which all loaders of this process share. There they do not slow down the
            training. By default they run in this process if the device is the CPU, so that a short
            job does not wait for a process to start. For dali these are the threads that read.
        lookahead_mb: The memory that batches in work may take, in 2**20 bytes; not for dali. At
            least two batches are in work.
        max_kept_batches: For the loader process only, not for dali: how many batches of an
            iteration you may keep in the memory that both processes share, 2 by default. If you
            keep more, you get copies of the further ones. Memory is reserved for this many batches.
        layout: For dali only: the layout of its pipelines, or `TryLayouts()` to try a few layouts
            on the videos, which takes some seconds, or a `DaliViews` for a usual layout. Every
            layout gives the same batches; with `DaliViews.KERNEL` they are the same up to rounding.

        on_error: "raise" at the first bad video, "skip" bad videos, or `Skip(...)` with a limit and
            a list.

    Raises:
        InputError: An argument, the folder or the subset is unusable.
    """
    manifest = shards if isinstance(shards, Manifest) else read_manifest(shards)
    subset, skip = subset or Subset(), skip_policy(on_error)
    planner = Planner(
        manifest=manifest,
        rows=subset.rows(manifest),
        spec=view_spec(views, size_px, normalization),
        batch_size=batch_size,
        order=_order(shuffle, order),
        seed=seed,
        rank=rank,
        world_size=world_size,
        clips_per_video=clips_per_video,
    )
    making = Making(
        cache=cache,
        dtype=dtype,
        device=usable_device(device),
        num_workers=_usual_workers(world_size) if num_workers is None else num_workers,
        in_process=in_process,
        lookahead_mb=lookahead_mb,
        max_kept_batches=max_kept_batches,
        layout=layout,
    )
    opened = partial(_opened, planner, making, subset.visible_labels(manifest))
    # Bad videos are no reason for or against an engine, so the measurement skips them. The loader
    # reports them later.
    measure = partial(_speed, partial(opened, Skip(max_bad_share=1.0)))
    choice = choose_engine(
        engine,
        planner,
        dtype,
        making.device,
        making.num_workers,
        layout,
        making.not_for_dali,
        measure,
    )
    return opened(skip, choice)


def _usual_workers(world_size: int) -> int:
    """One thread for each core that this process may use, or for each in its share of them.

    A loader of one process has all cores: other processes may wait for this one.
    """
    if world_size == 1:
        return num_cpus()
    number = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if not number.isdecimal() or int(number) < 1:
        raise InputError(
            f"LOCAL_WORLD_SIZE is {number!r}, which is no number of processes: start with torchrun,"
            " unset it, or give num_workers"
        )
    return max(1, num_cpus() // int(number))


def _opened(
    planner: Planner, making: Making, labels: np.ndarray, skip: Skip | None, choice: EngineChoice
) -> Loader:
    producer = making.open(planner, choice.name)
    return Loader(
        planner=planner,
        producer=producer,
        choice=choice,
        labels=labels,
        device=making.device,
        skip=skip,
        copies=CudaCopyStream(making.device) if making.device.type == "cuda" else None,
        memory_mb=making.memory_mb(planner, producer, choice.name),
    )


def _speed(opened: Callable[[EngineChoice], Loader], name: EngineName) -> float:
    """The videos/s of a loader with that engine."""
    with (
        opened(EngineChoice(name=name, why="it is measured")) as loader,
        closing(loader.stream()) as batches,
    ):
        return videos_per_s((int((x.plan.rows >= 0).sum()) for x in batches), loader.device)


def _order(shuffle: bool, order: str | None) -> Order:
    if not shuffle:
        if order is not None:
            raise InputError(f"order is {order!r}, but shuffle is False: leave one of them out")
        return Order.MANIFEST
    choices = get_args(ShuffledOrder)
    if order is not None and order not in choices:
        raise InputError(f"order is {order!r}: choose {' or '.join(choices)}")
    return Order(order or Order.GLOBAL)
