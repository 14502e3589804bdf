"""The producers that use the loader process: it makes a loader's batches, or it reads for DALI."""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from loaders.engines.dali.samples import PackedBatch, SampleBatch
from loaders.engines.engine import Rendered
from loaders.engines.threads import view_shapes
from loaders.loader_process.messages import Made, ReadVideos, RenderVideos, video_error
from loaders.loader_process.process import LoaderProcess
from loaders.loader_process.process_loader import ProcessLoader
from loaders.plan.planner import Planner
from shards.decode.packet_decoder import DecodeError
from shards.reader import ShardError

if TYPE_CHECKING:
    from loaders.engines.dali.engine import DaliEngine  # it imports DALI


class ProcessProducer:
    """Makes batches in the loader process; see `Producer`."""

    engine: ClassVar[None] = None
    in_process: ClassVar[bool] = False

    def __init__(
        self,
        planner: Planner,
        *,
        cache: bool,
        num_workers: int,
        work: RenderVideos,
        max_kept: int,
        prepare: Callable[[np.ndarray], None] | None,
    ) -> None:
        """See `ProcessLoader`."""
        self._loader = ProcessLoader(
            planner,
            cache=cache,
            num_workers=num_workers,
            work=work,
            shapes=view_shapes(planner.spec, planner.batch_size),
            dtype=work.dtype,
            max_kept=max_kept,
            prepare=prepare,
        )
        self.process: LoaderProcess | None = self._loader.process

    def epoch(self, epoch: int, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        return self._loader.batches(epoch, start, _rendered)

    def stream(self, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        return self._loader.batches(None, start, _rendered)

    def memory_mb(self) -> float:
        """See `Producer`."""
        return self._loader.memory_mb()

    def close(self) -> None:
        """See `Producer`."""
        self.process = None
        self._loader.close()


class DaliProducer:
    """Makes batches with DALI here, of videos that the loader process reads; see `Producer`."""

    in_process: ClassVar[bool] = False

    def __init__(
        self, planner: Planner, engine: "DaliEngine", *, cache: bool, num_workers: int
    ) -> None:
        """Takes over the engine; the other arguments are as in `ProcessLoader`."""
        self.engine = engine
        self._loader = ProcessLoader(
            planner,
            cache=cache,
            num_workers=num_workers,
            work=ReadVideos(decodes=engine.decodes, sample_bytes=engine.sample_bytes),
            # A page takes memory only once it is written. So a slot takes only as much as the
            # largest batch that was in it.
            shapes=[(planner.batch_size * engine.sample_bytes,)],
            dtype="uint8",
            max_kept=engine.layout.num_batches + 1,  # those in DALI, and the one that comes next
        )
        self.process: LoaderProcess | None = self._loader.process

    def epoch(self, epoch: int, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        return self.engine.render(self._loader.batches(epoch, start, _samples))

    def stream(self, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        return self.engine.render(self._loader.batches(None, start, _samples))

    def memory_mb(self) -> float:
        """See `Producer`; on the device."""
        return self.engine.memory_mb()

    def close(self) -> None:
        """See `Producer`."""
        self.process = None
        self.engine.close()
        self._loader.close()


def _rendered(made: Made, arrays: list[np.ndarray]) -> Rendered:
    return Rendered(plan=made.plan, views=arrays, errors=_errors(made), times=made.times)


def _samples(made: Made, arrays: list[np.ndarray]) -> SampleBatch:
    packed = PackedBatch(
        plan=made.plan, samples=made.samples, errors=_errors(made), times=made.times
    )
    return SampleBatch.unpacked(packed, arrays[0])


def _errors(made: Made) -> dict[int, DecodeError | ShardError]:
    return {b: video_error(failed) for b, failed in made.errors.items()}
