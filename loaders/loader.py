"""`open_loader`: turns a shards folder into an iterable of batches on a device.

A sample passes through a line of generators: a planner makes plans, an engine makes pixels, an
assembler makes batches. The loader only connects them and remembers its position.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch

from loaders.batch import Assembler, Batch
from loaders.devices import usable_device
from loaders.engines.choice import EngineChoice, EngineName, choose_engine, open_engine
from loaders.engines.dali.layout import DaliLayout, TryLayouts
from loaders.engines.engine import Engine
from loaders.engines.speeds import videos_per_s
from loaders.faults import FaultLog, LoaderError, Skip, skip_policy
from loaders.plan.draw import Plan
from loaders.plan.order import Order
from loaders.plan.planner import Planner
from loaders.plan.stage_views import view_spec
from loaders.plan.views import ViewSpec
from loaders.prefetch import Prefetcher
from loaders.profile import Profile, profile_batches
from loaders.subset import Subset
from shards.cpus import num_cpus
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from shards.reader import ShardReader


class Loader:
    """Batches of one subset under one `ViewSpec`; made by `open_loader`.

    Iterate over it once per epoch. It owns threads, open shards and an engine until `close` or
    until the end of its `with` block.

    Attributes:
        manifest: The manifest of the shards.
        planner: Says which plan comes when.
        engine: Executes the plans.
        choice: Which engine that is, and why.
        labels: (number of rows in the manifest,) int64, -1 where hidden.
        device: Where batches end up.
    """

    def __init__(
        self,
        *,
        planner: Planner,
        reader: ShardReader,
        engine: Engine,
        choice: EngineChoice,
        labels: np.ndarray,
        device: torch.device,
        skip: Skip | None,
    ) -> None:
        """Takes over the reader and the engine."""
        self.manifest, self.planner, self.engine = planner.manifest, planner, engine
        self.choice, self.labels, self.device = choice, labels, device
        self._reader = reader
        self._ahead = Prefetcher(planner, reader, num_batches_ahead=engine.num_batches_ahead)
        self._faults = FaultLog(skip=skip, num_videos=len(planner.rows) / planner.world_size)
        self._epoch = self._batch = 0
        self._iteration = 0  # number of the newest iteration; older ones must not continue
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> None:
        raise InputError(
            "a loader cannot be sent to another process; in a DataLoader set num_workers=0, "
            "because the loader has its own threads"
        )

    def close(self) -> None:
        """Gives back threads, descriptors and pipelines; the loader cannot be used afterwards."""
        self._is_open = False
        self._iteration += 1
        self.engine.close()
        self._ahead.close()
        self._reader.close()

    @property
    def spec(self) -> ViewSpec:
        """The views."""
        return self.planner.spec

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64 manifest rows that are served."""
        return self.planner.rows

    @property
    def bad(self) -> dict[str, str]:
        """Key -> reason of every video skipped so far."""
        return self._faults.bad

    @property
    def epoch(self) -> int:
        """The epoch of the last batch that was handed out; after its last batch, the next epoch."""
        return self._epoch

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return len(self.planner)

    def __iter__(self) -> Generator[Batch]:
        """Yields the rest of this epoch's batches. At its end the next epoch begins.

        Only the newest iteration may go on, because two would share one position. `batches` does
        not use the position.
        """
        self._iteration += 1
        return self._rest_of_epoch(self._iteration)

    def _rest_of_epoch(self, iteration: int) -> Generator[Batch]:
        self._check_newest(iteration)
        # A consumer that counts batches stops after the last one, so its generator never ends.
        self._epoch, self._batch = self._position
        with closing(self.batches(self._epoch, self._batch)) as batches:
            for batch in batches:
                self._check_newest(iteration)
                self._batch += 1
                yield batch
                del batch
                self._check_newest(iteration)
        self._epoch, self._batch = self._position

    @property
    def _position(self) -> tuple[int, int]:
        """(epoch, batch) of the next batch; the end of an epoch is the beginning of the next."""
        is_over = self._batch == len(self)
        return (self._epoch + 1, 0) if is_over else (self._epoch, self._batch)

    def _check_newest(self, iteration: int) -> None:
        if iteration != self._iteration:
            raise LoaderError(
                "this iteration is over: the loader was iterated again, moved to another position "
                "or closed; loader.batches(epoch, start) serves several iterations at a time"
            )

    def set_epoch(self, epoch: int) -> None:
        """The next iteration serves this epoch, from its beginning.

        Raises:
            InputError: `epoch` is below 0.
        """
        self._move(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch handed out, and what a loader must match to load it.

        The values are plain numbers and strings: "epoch", "batch" (the number of global batches
        handed out in this epoch), "data" (the digest of the data set), "videos" (a digest of the
        videos served), "seed", "order" and "global_batch_size".
        """
        epoch, batch = self._position
        return {"epoch": epoch, "batch": batch, **self._identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict()` was called; the number of ranks may be another one.

        Raises:
            InputError: The state belongs to another data set, subset, seed, order or global batch
                size.
        """
        for name, ours in self._identity().items():
            theirs = state_dict.get(name)
            if theirs != ours:
                raise InputError(
                    f"the loader's state does not fit: its {name} is {theirs!r}, this loader's is "
                    f"{ours!r}; open the loader as it was, or begin without the state"
                )
        missing = {"epoch", "batch"} - state_dict.keys()
        if missing:
            raise InputError(f"the loader's state lacks {', '.join(sorted(missing))}")
        try:
            epoch, batch = int(state_dict["epoch"]), int(state_dict["batch"])
        except (TypeError, ValueError) as error:
            raise InputError(f"the loader's state has no usable position ({error})") from error
        self._move(epoch, batch)

    def _identity(self) -> dict[str, str | int]:
        planner = self.planner
        return {
            "data": self.manifest.digest,
            "videos": hashlib.sha256(planner.rows.astype("<i8").tobytes()).hexdigest(),
            "seed": planner.seed,
            "order": str(planner.order),
            "global_batch_size": planner.batch_size * planner.world_size,
        }

    def _move(self, epoch: int, batch: int) -> None:
        self.planner.epoch(epoch, batch)  # raises if there is no such position
        self._iteration += 1
        self._epoch, self._batch = epoch, batch

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """Yields one epoch from batch `start` on: every video once over all ranks, the end padded.

        It does not move the loader's own position.

        Raises:
            InputError: There is no such position.
            LoaderError: While iterating: a bad video, or too many of them.
        """
        return self._run(self._ahead.epoch(epoch, start))

    def stream(self, start: int = 0) -> Generator[Batch]:
        """Yields batches without end from step `start` on; nothing is padded or dropped.

        It does not move the loader's own position. It raises the same errors as `batches`.
        """
        return self._run(self._ahead.stream(start))

    def plans(self, epoch: int, start: int = 0) -> Iterator[Plan]:
        """The plans of `batches(epoch, start)`, without reading a video."""
        return self.planner.epoch(epoch, start)

    def profile(
        self, num_batches: int = 20, step: Callable[[Batch], object] | None = None
    ) -> Profile:
        """Measures where the time goes; print it. `step` is what training does with a batch."""
        with closing(self.stream()) as batches:
            return profile_batches(batches, num_batches, step)

    def _run(self, plans: Iterator[Plan]) -> Generator[Batch]:
        self._check_open()
        assembler = Assembler(
            manifest=self.manifest,
            spec=self.spec,
            labels=self.labels,
            device=self.device,
            faults=self._faults,
        )
        rendered = self.engine.run(self._reader, plans)
        return self._while_open(assembler.batches(rendered))

    def _while_open(self, batches: Generator[Batch]) -> Generator[Batch]:
        """The batches. The next one is an error once the loader is closed."""
        with closing(batches):
            self._check_open()
            for batch in batches:
                yield batch
                del batch  # its memory is used again
                self._check_open()

    def _check_open(self) -> None:
        if not self._is_open:
            raise LoaderError("this loader is closed; open another one")


def open_loader(
    shards: Path | str | Manifest,
    views: str | ViewSpec,
    *,
    subset: Subset | None = None,
    batch_size: int = 8,
    seed: int = 0,
    shuffle: bool = True,
    order: Literal["global", "windowed"] | None = None,
    cache: bool = True,
    rank: int = 0,
    world_size: int = 1,
    size_px: int | None = None,
    dtype: str = "float32",
    device: str = "auto",
    engine: str = "auto",
    num_workers: int | None = None,
    layout: DaliLayout | TryLayouts | None = None,
    on_error: Literal["raise", "skip"] | Skip = "raise",
) -> Loader:
    """Opens a shards folder for one stage. Close the loader, or use it in a `with` block.

    No argument is ignored: an argument that means nothing together with the others is refused.

    Args:
        shards: Folder made by `tb shard`, its URL, or its manifest.
        views: A preset's name (see `loaders.plan.stage_views.PRESETS`) or a `ViewSpec`.
        subset: The videos to serve; the whole train split by default. In an "unlabelled" part all
            labels are -1.

        batch_size: Videos per batch and rank.
        seed: The seed of order and augmentation, in [0, 2**63). Where nothing is random, all seeds
            give the same batches.
        shuffle: True for a new order each epoch, False for the manifest's order.
        order: How to shuffle: "global" (the default), or "windowed", which reads nearly
            sequentially, for remote or spinning storage (see `loaders.plan.order`).
        cache: For remote shards: whether each shard is copied to this machine when it is first
            needed. False requests only the bytes that are shown, again in each epoch.
        rank: This process's place among `world_size`.
        world_size: Number of processes that share each global batch.

        size_px: Overrides the output size of `views`.
        dtype: The type of the views: "float32" or "float16" in [0, 1], or "uint8".
        device: A torch device, or "auto": CUDA where there is one.

        engine: What makes the pixels: "dali", "fused", "reference" (slow; the oracle), or "auto":
            on a GPU that decodes these videos the faster of dali and fused, which is measured once
            for each kind of views and kept; otherwise fused.
        num_workers: Number of threads; one per usable core by default.
        layout: For dali only: the layout of its pipelines, or `TryLayouts()` to try a few layouts
            on the videos, which takes some seconds. Every layout gives the same batches.

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
        spec=view_spec(views, size_px),
        batch_size=batch_size,
        order=_order(shuffle, order),
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    placed, labels = usable_device(device), subset.visible_labels(manifest)
    workers = num_cpus() if num_workers is None else num_workers
    opened = partial(_opened, planner, labels, skip, cache, dtype, placed, workers, layout)
    measure = partial(_speed, opened)
    return opened(choose_engine(engine, planner, dtype, placed, workers, layout, measure))


def _opened(
    planner: Planner,
    labels: np.ndarray,
    skip: Skip | None,
    cache: bool,
    dtype: str,
    device: torch.device,
    num_workers: int,
    layout: DaliLayout | TryLayouts | None,
    choice: EngineChoice,
) -> Loader:
    reader = ShardReader(planner.manifest, cache=cache)
    return Loader(
        planner=planner,
        reader=reader,
        engine=open_engine(choice.name, planner, reader, dtype, device, num_workers, layout),
        choice=choice,
        labels=labels,
        device=device,
        skip=skip,
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
    choices = (Order.GLOBAL, Order.WINDOWED)
    if order is not None and order not in choices:
        raise InputError(f"order is {order!r}: choose {' or '.join(choices)}")
    return Order(order or Order.GLOBAL)
