"""`ProcessLoader`: the training's handle of one loader in the loader process."""

import os
import socket
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from typing import TypeVar

import numpy as np

from loaders.engines.memory import MB
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
    ReadVideos,
    RenderVideos,
    receive,
    slot_message,
)
from loaders.loader_process.process import LoaderProcess, shared_process
from loaders.loader_process.ring import Ring, RingLayout
from loaders.plan.planner import Planner

_numbers = count()

Result = TypeVar("Result")


class ProcessLoader:
    """A loader in the loader process, and the rings that hold its batches.

    Attributes:
        process: The loader process; None once closed.
    """

    def __init__(
        self,
        planner: Planner,
        *,
        cache: bool,
        num_workers: int,
        work: RenderVideos | ReadVideos,
        shapes: Sequence[tuple[int, ...]],
        dtype: str,
        max_kept: int,
        prepare: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        """Opens it in the loader process, which it starts if there is none.

        Args:
            planner: Makes the plans.
            cache: See `ShardReader`.
            num_workers: Number of threads; loaders that ask for as many share them.
            work: What it does.
            shapes: The shapes of a batch's arrays.
            dtype: NumPy's name of their type.
            max_kept: See `Ring`.
            prepare: Gets the memory of each new ring, as bytes.

        Raises:
            InputError: The process cannot be started, or an argument is unusable.
        """
        self._number = next(_numbers)
        self._max_kept, self._prepare = max_kept, prepare
        self.process: LoaderProcess | None = shared_process()
        opened = self.process.ask(
            OpenLoader(
                loader=self._number,
                planner=planner,
                cache=cache,
                num_workers=num_workers,
                work=work,
            )
        )
        assert isinstance(opened, Opened)
        self._engine_mb = opened.memory_mb
        self._layout = RingLayout(
            shapes=tuple(shapes),
            dtype=dtype,
            num_slots=opened.num_batches_ahead + 1 + max_kept,
        )
        self._idle: list[tuple[int, Ring]] = []  # rings that no iteration uses
        # If nobody closes this loader, the next request to the process does.
        self._abandoned = weakref.finalize(self, self.process.abandoned.append, self._number)

    def batches(
        self,
        epoch: int | None,
        start: int,
        finish: Callable[[Made, list[np.ndarray]], Result],
    ) -> Generator[Result]:
        """The batches of an epoch, or of the endless stream if `epoch` is None.

        `finish` makes each one from its message and its arrays. The memory of the arrays is used
        again when nothing refers to them any more.

        Raises:
            LoaderError: The loader process is dead, or the loader was closed.
        """
        process = self.process
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
        pid = os.getpid()
        try:
            while made := self._next(connection, process):
                yield finish(made, ring.views(made.slot))
        finally:
            if os.getpid() == pid:
                self._end_iteration(connection, number, ring)
            else:  # a process that was forked from this one
                connection.close()

    def memory_mb(self) -> float:
        """MiB that the engine and one ring will take."""
        # The engine's own prediction counts one batch that the consumer keeps.
        slot_mb = self._layout.slot_bytes / MB
        return self._engine_mb + (self._max_kept - 1) * slot_mb

    def close(self) -> None:
        """Closes it. Generators that have not ended must not be used afterwards."""
        process, self.process = self.process, None
        if process is None:
            return
        self._abandoned.detach()
        self._idle.clear()
        if process.is_running:
            process.ask(CloseLoader(loader=self._number))

    def _end_iteration(self, connection: Connection, number: int, ring: Ring) -> None:
        """Ends an iteration, and keeps its ring for the next one."""
        _end(connection)
        try:
            _wait_for_end(connection)
        finally:
            ring.detach()
            connection.close()  # not earlier, because the ring sends free slots to it
        # After Ctrl-C in that wait the ring is not kept: the other process may still write to it.
        if self.process is not None:
            self._idle.append((number, ring))

    def _new_ring(self) -> tuple[int, Ring]:
        ring = Ring(self._layout, self._max_kept)
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
            if self.process is None:
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
