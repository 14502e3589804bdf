"""`Loader`: an iterable of batches on a device, with a position that can be saved.

A sample passes through a line of generators: a planner makes plans, an engine makes pixels, an
assembler makes batches. The loader only connects them and remembers its position.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from loaders.batch import Assembler, Batch
from loaders.engines.choice import EngineChoice
from loaders.engines.engine import Engine, Rendered
from loaders.faults import FaultLog, LoaderError, Skip
from loaders.plan.draw import Plan
from loaders.plan.planner import Planner
from loaders.plan.views import ViewSpec
from loaders.producer import Producer
from loaders.profile import Profile, profile_stream
from loaders.transfer import CopyStream
from shards.counted import counted
from shards.errors import InputError
from shards.format.dataset_json import state_name
from shards.format.text_column import TextColumn


class Loader:
    """Batches of one subset under one `ViewSpec`; made by `open_loader`.

    Iterate over it once per epoch. It owns threads, open shards and an engine until `close` or
    until the end of its `with` block.

    Attributes:
        manifest: The manifest of the shards.
        planner: Says which plan comes when.
        producer: Makes the pixels.
        choice: Which engine makes them, and why.
        labels: (number of rows in the manifest,) int64, -1 where hidden.
        device: Where batches end up.
    """

    def __init__(
        self,
        *,
        planner: Planner,
        producer: Producer,
        choice: EngineChoice,
        labels: np.ndarray,
        device: torch.device,
        skip: Skip | None,
        copies: CopyStream | None,
        memory_mb: Mapping[str, float],
    ) -> None:
        """Takes over the producer.

        `skip` is as in `FaultLog`, `memory_mb` is what the method of that name returns, and the
        others are as in `Assembler`.
        """
        self.manifest, self.planner, self.producer = planner.manifest, planner, producer
        self.choice, self.labels, self.device = choice, labels, device
        self._keys = TextColumn(self.manifest.table.column("key"))
        self._copies, self._memory_mb = copies, dict(memory_mb)
        self._copies_views = not choice.name.has_pipelines
        self._faults = FaultLog(
            skip=skip,
            num_videos=planner.num_windows / planner.world_size,
            clips_per_video=planner.clips_per_video,
        )
        self._num_batches = len(planner)
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
        self.producer.close()

    @property
    def engine(self) -> Engine:
        """The engine, if it is in this process.

        Raises:
            InputError: It is in the loader process.
        """
        if self.producer.engine is not None:
            return self.producer.engine
        raise InputError("the engine is in the loader process: open it with in_process=True")

    @property
    def spec(self) -> ViewSpec:
        """The views."""
        return self.planner.spec

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64 manifest rows that are served."""
        return self.planner.rows

    @property
    def synchronizes_gpu(self) -> bool:
        """Whether it may wait for the whole GPU at any time, which ends a CUDA graph's capture."""
        engine = self.producer.engine
        return engine is not None and engine.synchronizes_gpu

    @property
    def bad(self) -> dict[str, str]:
        """Key -> reason of every video skipped so far."""
        return self._faults.bad

    @property
    def epoch(self) -> int:
        """The epoch of the last batch that was handed out; after the iteration, the next epoch."""
        return self._epoch

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return self._num_batches

    def __iter__(self) -> Generator[Batch]:
        """Yields the rest of this epoch's batches. At its end the next epoch begins.

        Only the newest iteration may go on, because two would share one position. `batches` does
        not use the position.
        """
        self._iteration += 1
        return self._rest_of_epoch(self._iteration)

    def _rest_of_epoch(self, iteration: int) -> Generator[Batch]:
        self._check_newest(iteration)
        # A consumer that counts batches stops after the last one. Its generator never ends, and the
        # epoch may be over here.
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

    def _check_position(self, epoch: int, batch: int) -> None:
        if epoch < 0 or not 0 <= batch <= len(self):
            raise InputError(
                f"epoch {epoch}, start {batch}: epochs count from 0, and an epoch of this loader "
                f"has {counted(len(self), 'batch')}"
            )

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
        videos served), "seed", "order", "clips_per_video" and "global_batch_size".
        """
        epoch, batch = self._position
        return {"epoch": epoch, "batch": batch, **self._identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict()` was called; the number of ranks may be another one.

        Raises:
            InputError: The state belongs to another data set, subset, seed, order, number of clips
                per video or global batch size.
        """
        for name, ours in self._identity().items():
            theirs = state_dict.get(name)
            if theirs != ours:
                earlier = None
                if name == "data":
                    earlier = state_name(self.manifest.where, str(theirs))
                raise InputError(
                    f"the loader's state does not fit: its {name} is {theirs!r}, this loader's"
                    f" is {ours!r}; open {earlier or 'the loader as it was'}, or begin without the"
                    " state"
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
            "clips_per_video": planner.clips_per_video,
            "global_batch_size": planner.batch_size * planner.world_size,
        }

    def _move(self, epoch: int, batch: int) -> None:
        self._check_position(epoch, batch)
        self._iteration += 1
        self._epoch, self._batch = epoch, batch

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """Yields one epoch from batch `start` on: each video once over all ranks, then padding.

        With `clips_per_video` above 1, every video comes that many times.

        It does not move the loader's own position.

        Raises:
            InputError: There is no such position.
            LoaderError: While iterating: a bad video, or too many of them.
        """
        self._check_position(epoch, start)
        return self._run(self.producer.epoch(epoch, start))

    def stream(self, start: int = 0) -> Generator[Batch]:
        """Yields batches without end from step `start` on; nothing is padded or dropped.

        It does not move the loader's own position. It raises the same errors as `batches`.
        """
        if start < 0:
            raise InputError(f"start is {start}: steps count from 0")
        return self._run(self.producer.stream(start))

    def plans(self, epoch: int, start: int = 0) -> Iterator[Plan]:
        """The plans of `batches(epoch, start)`, without reading a video."""
        self._check_position(epoch, start)
        return self.planner.epoch(epoch, start)

    def memory_mb(self) -> dict[str, float]:
        """Device ("cpu", "cuda:0") -> MiB that batches will take there, predicted.

        For dali that is the device alone. The other engines make batches on the CPU, and a GPU gets
        copies of them.
        """
        return dict(self._memory_mb)

    def profile(
        self, num_batches: int = 20, step: Callable[[Batch], object] | None = None
    ) -> Profile:
        """Measures where time goes; print the result. `step` is what training does with a batch."""
        return profile_stream(self.stream, num_batches, step, in_process=self.producer.in_process)

    def _run(self, rendered: Generator[Rendered]) -> Generator[Batch]:
        self._check_usable()
        assembler = Assembler(
            manifest=self.manifest,
            spec=self.spec,
            keys=self._keys,
            labels=self.labels,
            device=self.device,
            faults=self._faults,
            copies=self._copies,
            copies_views=self._copies_views,
        )
        return self._while_usable(assembler.batches(rendered))

    def _while_usable(self, batches: Generator[Batch]) -> Generator[Batch]:
        """Yields the batches; raises LoaderError at the next one once the loader is unusable.

        It is unusable once it is closed, or once the process that makes the batches is dead. The
        error comes before batches that are already finished, because slow steps on them would
        delay it.
        """
        with closing(batches):
            self._check_usable()
            for batch in batches:
                yield batch
                del batch  # its memory is used again
                self._check_usable()

    def _check_usable(self) -> None:
        if not self._is_open:
            raise LoaderError("this loader is closed; open another one")
        process = self.producer.process
        if process is not None and not process.is_running:
            raise process.death()
