"""`Producer`: makes the pixels of a loader, in this process or in another one."""

from collections.abc import Generator, Iterator
from typing import ClassVar, Protocol

from loaders.engines.engine import Engine, Rendered
from loaders.loader_process.process import LoaderProcess
from loaders.plan.draw import Plan
from loaders.plan.planner import Planner
from loaders.prefetch import Prefetcher
from shards.reader import ShardReader


class Producer(Protocol):
    """Makes the batches of one planner. It owns all that this needs until it is closed."""

    @property
    def in_process(self) -> bool:
        """Whether the threads that read are in this process, and not in the loader process."""
        ...

    @property
    def engine(self) -> Engine | None:
        """The engine, if it is in this process."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Generator[Rendered]:
        """The batches of one epoch from batch `start` on. Closing the generator ends its work.

        Several generators may be used at the same time.
        """
        ...

    def stream(self, start: int = 0) -> Generator[Rendered]:
        """The batches of the endless stream from step `start` on, as for `epoch`."""
        ...

    def memory_mb(self) -> float:
        """MiB that batches will take where their pixels are made, predicted."""
        ...

    @property
    def process(self) -> LoaderProcess | None:
        """The loader process; None if the threads are in this process, and once closed."""
        ...

    def close(self) -> None:
        """Gives everything back. Generators that have not ended must not be used afterwards."""
        ...


class LocalProducer:
    """Makes batches in this process: an engine executes the plans.

    Attributes:
        engine: Executes the plans.
    """

    in_process: ClassVar[bool] = True
    process: ClassVar[None] = None

    def __init__(self, planner: Planner, reader: ShardReader, engine: Engine) -> None:
        """Takes over the reader and the engine."""
        self.engine = engine
        self._reader = reader
        self._ahead = Prefetcher(planner, reader, num_batches_ahead=engine.num_batches_ahead)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        return self._run(self._ahead.epoch(epoch, start))

    def stream(self, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        return self._run(self._ahead.stream(start))

    def memory_mb(self) -> float:
        """See `Producer`."""
        return self.engine.memory_mb()

    def close(self) -> None:
        """See `Producer`."""
        self.engine.close()
        self._ahead.close()
        self._reader.close()

    def _run(self, plans: Iterator[Plan]) -> Generator[Rendered]:
        return self.engine.run(self._reader, plans)
