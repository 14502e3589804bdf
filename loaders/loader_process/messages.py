"""What the training and its loader process tell each other.

The training asks over one socket, and every request has a reply. Each iteration over batches has a
socket of its own. There the training sends the numbers of free slots (`slot_message`), and an empty
message to end the iteration. The loader process sends `Made` for each batch, then `Ended` or
`Failed`. Log records of the loader process travel with its messages, and are logged in the
training.
"""

import logging
import pickle
import traceback
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue

from loaders.engines.dali.samples import PackedSample
from loaders.engines.engine import WorkTimes
from loaders.loader_process.ring import RingLayout
from loaders.plan.draw import Plan
from loaders.plan.planner import Planner
from shards.decode.packet_decoder import DecodeError
from shards.errors import InputError
from shards.reader import ShardError

END = b""
"""Ends an iteration."""


def slot_message(slot: int) -> bytes:
    """Says that a slot is free."""
    return slot.to_bytes(2)


def slot_of(message: bytes) -> int:
    """The slot of a `slot_message`."""
    return int.from_bytes(message)


@dataclass(frozen=True, kw_only=True)
class RenderVideos:
    """What a loader does: it makes views. The attributes are arguments of `open_cpu_engine`."""

    engine: str
    dtype: str
    lookahead_mb: int
    picture_px: float


@dataclass(frozen=True, kw_only=True)
class ReadVideos:
    """What a loader does: it reads videos for DALI. The attributes are as in `SampleReader`."""

    decodes: bool
    sample_bytes: int


@dataclass(frozen=True, kw_only=True)
class OpenLoader:
    """Opens loader number `loader`. The reply is `Opened`."""

    loader: int
    planner: Planner
    cache: bool
    num_workers: int
    work: RenderVideos | ReadVideos


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Begins an iteration: an epoch, or the endless stream if `epoch` is None.

    Two descriptors follow it: the iteration's socket, and the ring's memory.
    """

    loader: int
    epoch: int | None
    start: int
    ring: int
    layout: RingLayout


@dataclass(frozen=True, kw_only=True)
class CloseLoader:
    """Closes loader number `loader`, and ends its iterations."""

    loader: int


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The loader is open; the attributes are those of its engine."""

    num_batches_ahead: int
    memory_mb: float


@dataclass(frozen=True, kw_only=True)
class Done:
    """The request was fulfilled."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A batch is in slot `slot`: views, or `samples` for DALI; the others as in `Rendered`."""

    slot: int
    plan: Plan
    samples: dict[int, PackedSample]
    errors: "dict[int, Failed]"
    times: WorkTimes


@dataclass(frozen=True, kw_only=True)
class Ended:
    """There are no more batches."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An exception, followed by its causes."""

    chain: tuple[BaseException, ...]

    @classmethod
    def of(cls, error: BaseException) -> "Failed":
        """The message for an exception."""
        if not isinstance(error, InputError | DecodeError):  # a mistake in the program
            error.add_note("in the loader process:\n" + "".join(traceback.format_exception(error)))
        chain = [error]
        while (cause := chain[-1].__cause__) is not None and cause not in chain:
            chain.append(cause)
        return cls(chain=tuple(map(_portable, chain)))

    @property
    def error(self) -> BaseException:
        """The exception, as it was raised."""
        for error, cause in zip(self.chain, self.chain[1:], strict=False):
            error.__cause__ = cause
        return self.chain[0]


Request = OpenLoader | Begin | CloseLoader
Reply = Opened | Done | Failed
FromRun = Made | Ended | Failed


def _portable(error: BaseException) -> BaseException:
    """The exception, or its text where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def video_error(failed: Failed) -> DecodeError | ShardError:
    """The error of a video."""
    error = failed.error
    assert isinstance(error, DecodeError | ShardError)
    return error


_records: "SimpleQueue[logging.LogRecord]" = SimpleQueue()


def collect_log_records(level: int) -> None:
    """In the loader process: from now on, log records wait for the next message."""
    logging.root.handlers = [QueueHandler(_records)]
    logging.root.setLevel(level)
    logging.captureWarnings(True)


def send(connection: Connection, message: Reply | FromRun) -> None:
    """In the loader process: sends a message, and the log records so far."""
    records = []
    while True:
        try:
            records.append(_records.get_nowait())
        except Empty:
            break
    connection.send((message, records))


def receive(connection: Connection) -> Reply | FromRun:
    """In the training: the next message; logs the records that come with it.

    Raises:
        EOFError: The other side has closed the socket, or is dead.
        OSError: The same.
    """
    message, records = connection.recv()
    for record in records:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    answer: Reply | FromRun = message
    return answer
