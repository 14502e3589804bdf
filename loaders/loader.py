"""`open_loader`: a shards folder to an iterable of batches on a device."""

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from loaders.engines.choice import ENGINES, auto_engine, dali_is_installed, engine_name
from loaders.engines.dali.tuning import Tuning
from loaders.engines.threads import Pipeline, Rendered, Renderer, StageTimes
from loaders.faults import Faults, LoaderError, OnError
from loaders.plan.draw import Plan, draw_plan
from loaders.plan.order import Order, epoch_batch, epoch_order, num_batches, stream_batch
from loaders.plan.views import ViewSpec, view_spec
from loaders.profile import Profile, profile_batches
from loaders.subset import Subset
from shards.cpus import num_cpus
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from shards.reader import ShardReader

__all__ = ["Batch", "Loader", "LoaderError", "engine_name", "open_loader", "usable_device"]

DTYPES = ("float32", "float16", "uint8")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's batch of B videos.

    Attributes:
        views: Group name -> (B, *group shape, 3, T, H, W), in [0, 1] (or uint8), in memory as
            (..., T, H, W, 3): flattening the leading axes gives channels_last_3d without a copy.
            The memory is used again once no tensor refers to it.
        labels: (B,) int64 class indices, -1 where unlabelled or padding.
        keys: B video keys, "" for padding.
        valid: (B,) bool, False for padding and for videos skipped by `on_error="skip"`.
        plan: What was drawn.
        times: What it cost the workers.
    """

    views: dict[str, torch.Tensor]
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor
    plan: Plan
    times: StageTimes


@dataclass(frozen=True, kw_only=True, eq=False)
class Loader:
    """Batches of one subset under one `ViewSpec`; made by `open_loader`.

    Attributes:
        manifest: Of the shards.
        rows: (N,) manifest rows served.
        labels: (number of rows in the manifest,) int64, -1 where hidden.
        spec: The views.
        pipeline: Renders them.
        device: Where batches end up.
        batch_size: Videos per batch and rank.
        order: "global", "windowed", or "manifest" (not shuffled).
        seed: Of order and augmentation.
        rank: This process's place among `world_size`.
        world_size: Processes that share each global batch.
        faults: What happens to bad videos.
    """

    manifest: Manifest
    rows: np.ndarray
    labels: np.ndarray
    spec: ViewSpec
    pipeline: Renderer
    device: torch.device
    batch_size: int
    order: Order
    seed: int
    rank: int
    world_size: int
    faults: Faults

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}: give 1 or more")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}: give a number in [0, 2**63)")
        if not 0 <= self.rank < self.world_size:
            raise InputError(
                f"rank {self.rank} of world_size {self.world_size}: 0 <= rank < world_size"
            )

    @property
    def bad(self) -> dict[str, str]:
        """Key -> reason of every video skipped so far."""
        return self.faults.bad

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return num_batches(len(self.rows), batch_size=self.batch_size, world_size=self.world_size)

    def close(self) -> None:
        """Gives back what an open loader holds; here nothing."""

    def batches(self, epoch: int = 0, start: int = 0) -> Generator[Batch]:
        """One epoch from batch `start` on; every video once over all ranks, the tail padded."""
        return self._run(self.plans(epoch, start))

    def stream(self, start: int = 0) -> Generator[Batch]:
        """Endless batches from step `start` on: epochs end to end, nothing padded or dropped."""
        if start < 0:
            raise InputError(f"start is {start}: steps count from 0")
        return self._run(self._stream_plans(start))

    def profile(
        self, num_batches: int = 20, step: Callable[[Batch], object] | None = None
    ) -> Profile:
        """Where the time goes: print it. `step` is what a training loop does with a batch."""
        with closing(self._run(self._stream_plans(0))) as batches:
            return profile_batches(batches, num_batches, step)

    def tuned(self, gpu_memory_mb: float | None = None) -> "Loader":
        """The same loader, laid out as short trials find fastest; only dali has a choice.

        Raises:
            InputError: Every layout takes more than `gpu_memory_mb` of the GPU's memory.
        """
        with ShardReader(self.manifest) as reader:
            pipeline = self.pipeline.tuned(reader, lambda: self._stream_plans(0), gpu_memory_mb)
        return replace(self, pipeline=pipeline)

    def plans(self, epoch: int = 0, start: int = 0) -> Iterator[Plan]:
        """The plans of `batches(epoch, start)`, without reading a video."""
        if epoch < 0 or not 0 <= start <= len(self):
            raise InputError(
                f"epoch {epoch}, start {start}: epochs count from 0, and an epoch of this loader "
                f"has {len(self)} batches"
            )
        return self._epoch_plans(epoch, start)

    def plan(self, rows: np.ndarray, epochs: np.ndarray) -> Plan:
        """The plan of any (B,) manifest rows in their (B,) epochs; row -1 is padding."""
        return draw_plan(
            self.spec,
            rows=rows,
            epochs=epochs,
            num_frames=self.manifest.num_frames[rows],
            heights=self.manifest.heights[rows],
            widths=self.manifest.widths[rows],
            seed=self.seed,
        )

    def _epoch_plans(self, epoch: int, start: int) -> Iterator[Plan]:
        order = self._epoch_order(epoch)
        share = {
            "batch_size": self.batch_size,
            "rank": self.rank,
            "world_size": self.world_size,
        }
        for index in range(start, len(self)):
            positions = epoch_batch(order, index, **share)
            rows = np.where(positions >= 0, self.rows[positions], -1)
            yield self.plan(rows, np.full(len(rows), epoch))

    def _stream_plans(self, start: int) -> Iterator[Plan]:
        # A batch spans two epochs at most where the set is larger than a batch.
        order_of = lru_cache(maxsize=2)(self._epoch_order)
        step = start
        while True:
            positions, epochs = stream_batch(
                len(self.rows),
                step,
                order_of,
                batch_size=self.batch_size,
                rank=self.rank,
                world_size=self.world_size,
            )
            yield self.plan(self.rows[positions], epochs)
            step += 1

    def _epoch_order(self, epoch: int) -> np.ndarray:
        shards = self.manifest.shard_index[self.rows] if self.order == "windowed" else None
        return epoch_order(
            len(self.rows), seed=self.seed, epoch=epoch, order=self.order, shards=shards
        )

    def _run(self, plans: Iterator[Plan]) -> Generator[Batch]:
        bad_of_epoch: Counter[int] = Counter()
        with ShardReader(self.manifest) as reader:
            for rendered in self.pipeline.run(reader, plans):
                for b, error in rendered.errors.items():
                    self.faults.note(self.manifest.video(int(rendered.plan.rows[b])), error)
                    bad_of_epoch[int(rendered.plan.epochs[b])] += 1
                if rendered.errors:
                    self.faults.check(bad_of_epoch, len(self.rows) / self.world_size)
                batch = self._batch(rendered)
                # Nothing here may hold the batch while the consumer has it: its memory is reused.
                del rendered
                yield batch
                del batch

    def _batch(self, rendered: Rendered) -> Batch:
        plan = rendered.plan
        valid = plan.rows >= 0
        valid[list(rendered.errors)] = False
        keys = self.manifest.table.column("key").take(np.maximum(plan.rows, 0)).to_pylist()
        groups = zip(self.spec.groups, rendered.views, strict=True)
        return Batch(
            views={group.name: self._shaped(views, group.shape) for group, views in groups},
            labels=torch.from_numpy(np.where(valid, self.labels[plan.rows], -1)).to(self.device),
            keys=tuple(key if row >= 0 else "" for key, row in zip(keys, plan.rows, strict=True)),
            valid=torch.from_numpy(valid).to(self.device),
            plan=plan,
            times=rendered.times,
        )

    def _shaped(self, views: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        if self.device.type == "cuda" and not views.is_cuda:
            views = views.pin_memory().to(self.device, non_blocking=True)
        return views.view(len(views), *shape, *views.shape[2:]).movedim(-1, -4)


def open_loader(
    shards: Path | str | Manifest,
    views: str | ViewSpec,
    *,
    subset: Subset | None = None,
    batch_size: int = 8,
    size_px: int | None = None,
    engine: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool = True,
    order: Literal["global", "windowed"] = "global",
    num_workers: int | None = None,
    on_error: OnError = "raise",
    max_bad_share: float = 0.1,
    bad_list: Path | str | None = None,
    tune: bool | Tuning = False,
    gpu_memory_mb: float | None = None,
) -> Loader:
    """Opens a shards folder for one stage.

    Args:
        shards: Folder made by `tb shard`, its URL, or its manifest.
        views: A preset's name (see `loaders.plan.views.PRESETS`) or a `ViewSpec`.
        subset: Which videos; the whole train split by default. Labels of an "unlabelled" part
            read -1.
        batch_size: Videos per batch and rank.
        size_px: Overrides the output size of `views`.
        engine: "dali", "fused", "reference" (slow; the oracle), or "auto": dali on a GPU that
            decodes video, else fused.
        device: A torch device, or "auto": CUDA where there is one.
        dtype: "float32" or "float16" in [0, 1], or "uint8".
        seed: Seeds the order and the augmentation; in [0, 2**63).
        rank: This process's place among `world_size`.
        world_size: Number of processes that share each global batch.
        shuffle: A new order each epoch, or the manifest's.
        order: How to shuffle: "global", or "windowed" (nearly sequential reading, for remote or
            spinning storage; see `loaders.plan.order`).
        num_workers: Threads; by default one per usable core.
        on_error: "raise" on the first bad video, or "skip" it: its `valid` is False, its pixels 0.
        max_bad_share: With "skip": a rank that meets more bad videos in an epoch than this share
            of what it serves fails.
        bad_list: With "skip": a file to which a line {"key", "reason"} is added for each bad video.
        tune: For dali: how its work is laid out, or True to try a few layouts on the videos, which
            takes some seconds. Batches are the same for any.
        gpu_memory_mb: With `tune=True`: layouts that take more of the GPU's memory are left out.

    Raises:
        InputError: An argument, the folder or the subset is unusable.
        LoaderError: While iterating: a bad video, or too many of them.
    """
    manifest = shards if isinstance(shards, Manifest) else read_manifest(shards)
    _check(dtype, order, num_workers)
    subset = subset or Subset()
    spec = view_spec(views, size_px)
    rows = subset.rows(manifest)
    placed = usable_device(device)
    name = engine_name(engine, str(placed))
    if engine == "auto" and rank == 0:
        _say_why(str(placed))
    hidden = subset.part == "unlabelled"
    loader = Loader(
        manifest=manifest,
        rows=rows,
        labels=np.full_like(manifest.labels, -1) if hidden else manifest.labels,
        spec=spec,
        pipeline=_renderer(
            name, manifest, rows, spec, dtype, placed, batch_size, num_workers or num_cpus(), tune
        ),
        device=placed,
        batch_size=batch_size,
        order=order if shuffle else "manifest",
        seed=seed,
        rank=rank,
        world_size=world_size,
        faults=Faults(
            on_error=on_error,
            max_bad_share=max_bad_share,
            bad_list=None if bad_list is None else Path(bad_list),
        ),
    )
    return loader.tuned(gpu_memory_mb) if tune is True else loader


@lru_cache
def _say_why(device: str) -> None:
    """Once a process, which engine was chosen."""
    name, reason = auto_engine(device)
    print(f"loader: engine {name} ({reason})", file=sys.stderr)


def _renderer(
    name: str,
    manifest: Manifest,
    rows: np.ndarray,
    spec: ViewSpec,
    dtype: str,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    tune: bool | Tuning,
) -> Renderer:
    if name != "dali":
        return Pipeline(render=ENGINES[name], spec=spec, dtype=dtype, num_workers=num_workers)
    if not dali_is_installed():
        raise InputError("engine dali is not installed: pip install 'timebalance[dali]'")
    from loaders.engines.dali.engine import dali_pipeline  # heavy, and an extra

    return dali_pipeline(
        manifest,
        rows,
        spec,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        num_workers=num_workers,
        tuning=tune if isinstance(tune, Tuning) else None,
    )


def _check(dtype: str, order: str, num_workers: int | None) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    if order not in ("global", "windowed"):
        raise InputError(f"order is {order!r}: choose global or windowed")
    if num_workers is not None and num_workers < 1:
        raise InputError(f"num_workers is {num_workers}: give 1 or more, or leave it out")


def usable_device(device: str) -> torch.device:
    """The device of a name; "auto" is the GPU, if any. InputError where it cannot be used."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} is not usable here ({reason}): try cpu") from error
    return torch.device(device)
