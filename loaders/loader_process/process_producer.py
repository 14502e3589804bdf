"""`ProcessProducer`: a loader's batches from the loader process."""

import os
import socket
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection

import numpy as np

from loaders.engines.engine import Rendered
from loaders.engines.memory import MB
from loaders.engines.threads import view_shapes
from loaders.faults import LoaderError
from loaders.loader_process.messages import (
    END,
    Begin,
    CloseLoader,
    Ended,
    Failed,
    Made,
    Opened,
    OpenLoader,
    receive,
    slot_message,
    video_error,
)
from loaders.loader_process.process import LoaderProcess, shared_process
from loaders.loader_process.ring import MAX_HELD, Ring, RingLayout
from loaders.plan.planner import Planner

_numbers = count()


class ProcessProducer:
    """Makes batches in the loader process; see `Producer`."""

    def __init__(
        self,
        planner: Planner,
        *,
        cache: bool,
        engine: str,
        dtype: str,
        num_workers: int,
        lookahead_mb: int,
        picture_px: float,
        prepare: Callable[[np.ndarray], None] | None,
    ) -> None:
        """Opens a loader in the loader process, which it starts if there is none.

        Args:
            planner: Makes the plans.
            cache: See `ShardReader`.
            engine: "fused" or "reference".
            dtype: NumPy's name of the views' type.
            num_workers: Number of threads; loaders that ask for as many share them.
            lookahead_mb: See `num_batches_ahead`.
            picture_px: See `ThreadedEngine`.
            prepare: Gets the memory of each new ring, as bytes.

        Raises:
            InputError: The process cannot be started, or an argument is unusable.
        """
        self._planner, self._number, self._prepare = planner, next(_numbers), prepare
        self._process: LoaderProcess | None = shared_process()
        opened = self._process.ask(
            OpenLoader(
                loader=self._number,
                planner=planner,
                cache=cache,
                engine=engine,
                dtype=dtype,
                num_workers=num_workers,
                lookahead_mb=lookahead_mb,
                picture_px=picture_px,
            )
        )
        assert isinstance(opened, Opened)
        self._engine_mb = opened.memory_mb
        self._layout = RingLayout(
            shapes=tuple(view_shapes(planner.spec, planner.batch_size)),
            dtype=dtype,
            num_slots=opened.num_batches_ahead + 1 + MAX_HELD,
        )
        self._idle: list[tuple[int, Ring]] = []  # rings that no iteration uses
        # Where nobody closes it, the next loader's request does.
        self._abandoned = weakref.finalize(self, self._process.abandoned.append, self._number)

    @property
    def pid(self) -> int | None:
        """The number of the loader process; None once closed."""
        return None if self._process is None else self._process.pid

    def epoch(self, epoch: int, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        self._planner.epoch(epoch, start)  # raises if there is no such position
        return self._iterate(epoch, start)

    def stream(self, start: int = 0) -> Generator[Rendered]:
        """See `Producer`."""
        self._planner.stream(start)
        return self._iterate(None, start)

    def memory_mb(self) -> float:
        """See `Producer`."""
        # The consumer may keep one batch more than with an engine in this process.
        return self._engine_mb + self._layout.num_bytes / self._layout.num_slots / MB

    def close(self) -> None:
        """See `Producer`."""
        process, self._process = self._process, None
        if process is None:
            return
        self._abandoned.detach()
        self._idle.clear()
        if process.is_running:
            process.ask(CloseLoader(loader=self._number))

    def _iterate(self, epoch: int | None, start: int) -> Generator[Rendered]:
        process = self._process
        if process is None:
            raise LoaderError("this loader is closed; open another one")
        number, ring = self._idle.pop() if self._idle else self._new_ring()
        ours, theirs = socket.socketpair()
        connection = Connection(ours.detach())
        with theirs:
            process.ask(
                Begin(
                    loader=self._number, epoch=epoch, start=start, ring=number, layout=self._layout
                ),
                [theirs.fileno(), ring.descriptor],
            )
        ring.attach(lambda slot: connection.send_bytes(slot_message(slot)))
        try:
            while made := self._next(connection, process):
                yield Rendered(
                    plan=made.plan,
                    views=ring.views(made.slot),
                    errors={b: video_error(failed) for b, failed in made.errors.items()},
                    times=made.times,
                )
        finally:
            _end(connection)
            _wait_for_end(connection)
            ring.detach()
            connection.close()  # now, because a slot that comes back is sent to it
            if self._process is not None:
                self._idle.append((number, ring))

    def _new_ring(self) -> tuple[int, Ring]:
        ring = Ring(self._layout)
        if self._prepare is not None:
            self._prepare(ring.memory)
        return next(_numbers), ring

    def _next(self, connection: Connection, process: LoaderProcess) -> Made | None:
        """The next batch; None at the end.

        Raises:
            LoaderError: The loader process is dead, or the loader was closed.
            Exception: What was raised there.
        """
        try:
            message = receive(connection)
        except (EOFError, OSError) as error:
            if self._process is None:
                raise LoaderError("this loader is closed; open another one") from error
            raise process.death() from error
        if isinstance(message, Failed):
            raise message.error
        assert isinstance(message, Made | Ended)
        return message if isinstance(message, Made) else None


def _end(connection: Connection) -> None:
    """Tells the loader process that no more batches of an iteration are wanted."""
    with suppress(OSError):  # It may have ended by itself, or be dead.
        connection.send_bytes(END)


def _wait_for_end(connection: Connection) -> None:
    """Waits until the loader process has closed its side, so that it writes to no slot any more."""
    with suppress(OSError):
        while os.read(connection.fileno(), 1 << 16):
            pass
