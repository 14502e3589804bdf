"""`open_loader`: a shards folder to an iterable of batches on a device.

The CPU engines share one pipeline: a thread per worker renders one video at a time (PyAV and the
kernel both release the GIL) into the batch's own buffers, a few batches ahead of the consumer. The
cost of threads over processes is that Python code between the two serialises; it is microseconds a
video, and no pixel is ever copied between processes.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from loaders import fused, reference
from loaders.decode import DecodeError
from loaders.order import epoch_batch, epoch_order, num_batches, stream_batch
from loaders.plan import Plan, draw_plan
from loaders.subset import Subset
from loaders.views import ViewSpec, view_spec
from shards.errors import InputError
from shards.manifest import Manifest, read_manifest
from shards.reader import ShardError, ShardReader

Render = Callable[[bytes, Plan, int, list[np.ndarray]], None]
ENGINES: dict[str, Render] = {"fused": fused.render_video, "reference": reference.render_video}
DTYPES = ("float32", "float16", "uint8")
# Batches in flight beside the one being consumed: enough to hide a slow video, small in memory.
_PREFETCH = 2


class LoaderError(Exception):
    """A video cannot be read or decoded; names its key and shard."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's batch of B videos.

    Attributes:
        views: Group name -> (B, *group shape, 3, T, H, W), in [0, 1] (or uint8), in memory as
            (..., T, H, W, 3): flattening the leading axes gives channels_last_3d without a copy.
        labels: (B,) int64 class indices, -1 where unlabelled or padding.
        keys: B video keys, "" for padding.
        valid: (B,) bool, False for padding and for videos skipped by `on_error="skip"`.
        plan: What was drawn.
    """

    views: dict[str, torch.Tensor]
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor
    plan: Plan


class Loader:
    """Batches of one subset under one `ViewSpec`; made by `open_loader`.

    Attributes:
        rows: (N,) manifest rows served.
        spec: The views.
        bad: key -> reason of every video skipped so far.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        rows: np.ndarray,
        spec: ViewSpec,
        batch_size: int,
        render: Render,
        device: torch.device,
        dtype: str,
        seed: int,
        rank: int,
        world_size: int,
        shuffle: bool,
        num_workers: int,
        on_error: Literal["raise", "skip"],
        labelled: bool,
    ) -> None:
        self.manifest = manifest
        self.rows = rows
        self.spec = spec
        self.batch_size = batch_size
        self.device = device
        self.bad: dict[str, str] = {}
        self._render = render
        self._dtype = dtype
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._shuffle = shuffle
        self._num_workers = num_workers
        self._on_error = on_error
        self._labels = np.where(labelled, manifest.labels, -1)

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return num_batches(len(self.rows), batch_size=self.batch_size, world_size=self._world_size)

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """One epoch from batch `start` on; every video once over all ranks, the tail padded."""
        if epoch < 0 or not 0 <= start <= len(self):
            raise InputError(
                f"epoch {epoch}, start {start}: epochs count from 0, and an epoch of this loader "
                f"has {len(self)} batches"
            )
        return self._run(self._epoch_plans(epoch, start))

    def stream(self, start: int = 0) -> Iterator[Batch]:
        """Endless batches from step `start` on: epochs end to end, nothing padded or dropped."""
        if start < 0:
            raise InputError(f"start is {start}: steps count from 0")
        return self._run(self._stream_plans(start))

    def _epoch_plans(self, epoch: int, start: int) -> Iterator[Plan]:
        order = epoch_order(len(self.rows), seed=self._seed, epoch=epoch, shuffle=self._shuffle)
        for index in range(start, len(self)):
            positions = epoch_batch(
                order,
                index,
                batch_size=self.batch_size,
                rank=self._rank,
                world_size=self._world_size,
            )
            rows = np.where(positions >= 0, self.rows[positions], -1)
            yield self._plan(rows, np.full(len(rows), epoch))

    def _stream_plans(self, start: int) -> Iterator[Plan]:
        step = start
        while True:
            positions, epochs = stream_batch(
                len(self.rows),
                step,
                seed=self._seed,
                batch_size=self.batch_size,
                rank=self._rank,
                world_size=self._world_size,
                shuffle=self._shuffle,
            )
            yield self._plan(self.rows[positions], epochs)
            step += 1

    def _plan(self, rows: np.ndarray, epochs: np.ndarray) -> Plan:
        return draw_plan(
            self.spec,
            rows=rows,
            epochs=epochs,
            num_frames=self.manifest.num_frames[rows],
            heights=self.manifest.heights[rows],
            widths=self.manifest.widths[rows],
            seed=self._seed,
        )

    def _run(self, plans: Iterator[Plan]) -> Iterator[Batch]:
        reader = ShardReader(self.manifest)
        pool = ThreadPoolExecutor(self._num_workers, thread_name_prefix="loader")
        pending: deque[_Pending] = deque()
        try:
            for plan in plans:
                pending.append(self._submit(pool, reader, plan))
                if len(pending) > _PREFETCH:
                    yield self._collect(pending.popleft())
            while pending:
                yield self._collect(pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            reader.close()

    def _submit(self, pool: ThreadPoolExecutor, reader: ShardReader, plan: Plan) -> "_Pending":
        shape = (self.spec.num_frames, plan.size_px, plan.size_px, 3)
        num_videos = len(plan.rows)
        buffers = [
            np.zeros((num_videos, len(group.offsets), *shape), dtype=self._dtype)
            for group in self.spec.groups
        ]
        futures: list[Future[None] | None] = []
        for b, row in enumerate(plan.rows.tolist()):
            job = (reader, row, plan, b, [buffer[b] for buffer in buffers])
            futures.append(pool.submit(self._load, *job) if row >= 0 else None)
        return _Pending(plan=plan, buffers=buffers, futures=futures)

    def _load(
        self, reader: ShardReader, row: int, plan: Plan, b: int, out: list[np.ndarray]
    ) -> None:
        try:
            self._render(reader.read(row), plan, b, out)
        except DecodeError as error:
            video = self.manifest.video(row)
            raise LoaderError(f"{video.key} in {video.shard}: {error}") from error
        except ShardError as error:
            raise LoaderError(str(error)) from error

    def _collect(self, pending: "_Pending") -> Batch:
        plan = pending.plan
        valid = plan.rows >= 0
        for b, future in enumerate(pending.futures):
            if future is None:
                continue
            try:
                future.result()
            except LoaderError as error:
                if self._on_error == "raise":
                    raise
                valid[b] = False
                self.bad[self.manifest.keys[plan.rows[b]]] = str(error)
                for buffer in pending.buffers:
                    buffer[b] = 0
        labels = np.where(valid, self._labels[plan.rows], -1)
        groups = zip(self.spec.groups, pending.buffers, strict=True)
        return Batch(
            views={group.name: self._tensor(array, group.shape) for group, array in groups},
            labels=torch.from_numpy(labels).to(self.device),
            keys=tuple(self.manifest.keys[row] if row >= 0 else "" for row in plan.rows),
            valid=torch.from_numpy(valid).to(self.device),
            plan=plan,
        )

    def _tensor(self, array: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.view(len(array), *shape, *array.shape[2:]).movedim(-1, -4)


@dataclass(frozen=True, kw_only=True)
class _Pending:
    plan: Plan
    buffers: list[np.ndarray]
    futures: "list[Future[None] | None]"


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
    num_workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Loader:
    """Opens a shards folder for one stage.

    Args:
        shards: Folder made by `tb shard`, or its manifest.
        views: A preset's name (pretrain, finetune, student, similarity, eval) or a `ViewSpec`.
        subset: Which videos; the whole train split by default. Labels of an "unlabelled" part
            read -1.
        batch_size: Videos per batch and rank.
        size_px: Overrides the output size of `views`.
        engine: "fused", "reference" (slow; the oracle), or "auto" (the fastest usable: fused).
        device: A torch device, or "auto": CUDA where there is one.
        dtype: "float32" or "float16" in [0, 1], or "uint8".
        seed: Seeds the order and the augmentation; in [0, 2**63).
        rank: This process's place among `world_size`.
        world_size: Number of processes that share each global batch.
        shuffle: A new order each epoch, or the manifest's.
        num_workers: Threads; by default one per usable core.
        on_error: "raise" on the first bad video, or "skip" it: its `valid` is False, its pixels 0.

    Raises:
        InputError: An argument, the folder or the subset is unusable.
        LoaderError: While iterating, under `on_error="raise"`.
    """
    manifest = shards if isinstance(shards, Manifest) else read_manifest(Path(shards))
    _check(batch_size, seed, rank, world_size, dtype, on_error, num_workers)
    subset = subset or Subset()
    return Loader(
        manifest=manifest,
        rows=subset.rows(manifest),
        spec=view_spec(views, size_px),
        batch_size=batch_size,
        render=_engine(engine),
        device=_device(device),
        dtype=dtype,
        seed=seed,
        rank=rank,
        world_size=world_size,
        shuffle=shuffle,
        num_workers=num_workers or _num_cpus(),
        on_error=on_error,
        labelled=subset.part != "unlabelled",
    )


def _check(
    batch_size: int,
    seed: int,
    rank: int,
    world_size: int,
    dtype: str,
    on_error: str,
    num_workers: int | None,
) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: give 1 or more")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}: give a number in [0, 2**63)")
    if not 0 <= rank < world_size:
        raise InputError(f"rank {rank} of world_size {world_size}: 0 <= rank < world_size")
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    if on_error not in ("raise", "skip"):
        raise InputError(f"on_error is {on_error!r}: choose raise or skip")
    if num_workers is not None and num_workers < 1:
        raise InputError(f"num_workers is {num_workers}: give 1 or more, or leave it out")


def engine_name(engine: str) -> str:
    """The engine that `engine` ("auto" or a name) stands for on this machine."""
    name = "fused" if engine == "auto" else engine
    if name not in ENGINES:
        raise InputError(f"engine is {engine!r}: choose one of auto, {', '.join(ENGINES)}")
    return name


def _engine(engine: str) -> Render:
    return ENGINES[engine_name(engine)]


def _device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} is not usable here ({reason}): try cpu") from error
    return torch.device(device)


def _num_cpus() -> int:
    # macOS and Windows have no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
