"""How a loader's pixels are made, and where: in this process, or in the loader process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from loaders.engines.choice import check_dtype, open_dali
from loaders.engines.cpu import open_cpu_engine
from loaders.engines.dali.layout import DaliViews, Layout
from loaders.engines.engine import EngineName
from loaders.engines.memory import MB, refuse_too_much, usual_picture_px, view_bytes
from loaders.engines.threads import LOOKAHEAD_MB
from loaders.loader_process.messages import RenderVideos
from loaders.loader_process.process_producer import DaliProducer, ProcessProducer
from loaders.loader_process.ring import MAX_KEPT_BATCHES
from loaders.plan.planner import Planner
from loaders.producer import LocalProducer, Producer
from loaders.transfer import MAX_BATCHES_ON_DEVICE, pin
from shards.errors import InputError, one_of
from shards.reader import ShardReader


@dataclass(frozen=True, kw_only=True)
class Making:
    """How a loader's pixels are made; the attributes are arguments of `open_loader`."""

    cache: bool
    dtype: str
    device: torch.device
    num_workers: int
    in_process: bool | None
    lookahead_mb: int | None
    max_kept_batches: int | None
    layout: Layout | None

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise InputError(f"num_workers is {self.num_workers}: give 1 or more, or leave it out")
        for name in ("lookahead_mb", "max_kept_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give 1 or more, or leave it out")
        if self.max_kept_batches is not None and self._is_here:
            raise InputError(
                f"max_kept_batches is {self.max_kept_batches}, but it is for the loader process,"
                " and the threads run in this process: give in_process=False, or leave it out"
            )
        if isinstance(self.layout, str):
            object.__setattr__(self, "layout", one_of(DaliViews, "layout", self.layout))

    def open(self, planner: Planner, engine: EngineName) -> Producer:
        """Opens the producer that makes a planner's pixels with an engine.

        Raises:
            InputError: An attribute means nothing for this engine, the engine cannot be used, or it
                would take more memory than there is.
        """
        check_dtype(self.dtype, planner.spec)
        if engine.has_pipelines:
            producer, others = self._open_dali(planner), {str(self.device): ["layout"]}
        else:
            producer = self._open_threads(planner, engine)
            others = {"cpu": ["num_workers", "lookahead_mb"]}
        try:
            for device, taken_mb in self.memory_mb(planner, producer, engine).items():
                knobs = ["batch_size", "size_px", "dtype", *others.get(device, [])]
                refuse_too_much(taken_mb, torch.device(device), knobs)
        except InputError:
            producer.close()
            raise
        return producer

    def memory_mb(
        self, planner: Planner, producer: Producer, engine: EngineName
    ) -> dict[str, float]:
        """What the batches of a producer that `open` opened will take; see `Loader.memory_mb`."""
        if engine.has_pipelines:
            return {str(self.device): producer.memory_mb()}
        taken_mb = {"cpu": producer.memory_mb()}
        if self.device.type == "cuda":
            batch_bytes = planner.batch_size * view_bytes(planner.spec, self.dtype)
            taken_mb[str(self.device)] = MAX_BATCHES_ON_DEVICE * batch_bytes / MB
        return taken_mb

    @property
    def _is_here(self) -> bool:
        """Whether the threads run in this process."""
        return self.device.type == "cpu" if self.in_process is None else self.in_process

    @property
    def not_for_dali(self) -> list[str]:
        """The arguments that are given and that the engine dali does not take."""
        names = ("lookahead_mb", "max_kept_batches")
        return [name for name in names if getattr(self, name) is not None]

    def _open_dali(self, planner: Planner) -> Producer:
        for name in self.not_for_dali:
            raise InputError(f"{name} is not for the engine dali: leave it out")
        reader = ShardReader(planner.manifest, cache=self.cache)
        engine = open_dali(planner, reader, self.dtype, self.device, self.num_workers, self.layout)
        if self._is_here:
            return LocalProducer(planner, reader, engine)
        reader.close()  # It was for trials of layouts.
        try:
            return DaliProducer(planner, engine, cache=self.cache, num_workers=self.num_workers)
        except BaseException:
            engine.close()
            raise

    def _open_threads(self, planner: Planner, engine: EngineName) -> Producer:
        if self.layout is not None:
            raise InputError(f"layout is for the engine dali, and this is {engine}: leave it out")
        picture_px = usual_picture_px(planner.manifest, planner.rows)
        lookahead_mb = LOOKAHEAD_MB if self.lookahead_mb is None else self.lookahead_mb
        prepare: Callable[[np.ndarray], None] | None = None
        if self.device.type == "cuda":
            prepare = partial(pin, self.device)
        if self._is_here:
            threads = open_cpu_engine(
                engine,
                planner.spec,
                dtype=self.dtype,
                batch_size=planner.batch_size,
                num_workers=self.num_workers,
                lookahead_mb=lookahead_mb,
                picture_px=picture_px,
                prepare=prepare,
            )
            return LocalProducer(planner, ShardReader(planner.manifest, cache=self.cache), threads)
        return ProcessProducer(
            planner,
            cache=self.cache,
            num_workers=self.num_workers,
            work=RenderVideos(
                engine=engine.value,
                dtype=self.dtype,
                lookahead_mb=lookahead_mb,
                picture_px=picture_px,
            ),
            max_kept=self.max_kept_batches or MAX_KEPT_BATCHES,
            prepare=prepare,
        )
