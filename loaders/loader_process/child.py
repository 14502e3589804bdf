"""The program of the loader process. It does not import torch, unless the engine needs it.

It ends when its parent ends, for any reason, because its socket closes then. A process that the
parent forked may keep that socket open, so it also checks once a second that its parent is there.
"""

import faulthandler
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from threading import Thread
from typing import Self

import numpy as np

from loaders.engines.cpu import open_cpu_engine
from loaders.engines.dali.reading import PackingReader, SampleReader
from loaders.engines.dali.samples import PackedBatch
from loaders.engines.engine import EngineName
from loaders.engines.threads import ThreadedEngine
from loaders.loader_process.messages import (
    END,
    Begin,
    CloseLoader,
    Done,
    Ended,
    Failed,
    Made,
    Opened,
    OpenLoader,
    ReadVideos,
    Reply,
    Request,
    collect_log_records,
    send,
    slot_of,
)
from loaders.loader_process.ring import mapped
from loaders.plan.draw import Plan
from loaders.prefetch import Prefetcher
from shards.format.video import ColorMatrix
from shards.reader import ShardReader

_PARENT_CHECK_S = 1.0


class _IterationEndedError(Exception):
    """The training wants no more batches of an iteration."""


class _TrainingSide:
    """The training, as an iteration sees it: it gives free slots, and takes batches.

    An error of the socket means here that the training wants no more. The same error from the
    engine is a failure like any other.
    """

    def __init__(self, iteration: socket.socket) -> None:
        self._connection = Connection(os.dup(iteration.fileno()))
        self._free: deque[int] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def free_slot(self) -> int:
        """A slot that the training has given back; waits for one.

        Raises:
            _IterationEndedError: The training wants no more batches.
        """
        # Reads all messages, because the end may come after slots that nobody needs any more.
        while not self._free or self._connection.poll():
            with _ended_by_training():
                message = self._connection.recv_bytes()
            if message == END:
                raise _IterationEndedError
            self._free.append(slot_of(message))
        return self._free.popleft()

    def send(self, message: Made | Ended | Failed) -> None:
        """Sends a message.

        Raises:
            _IterationEndedError: The training wants no more batches.
        """
        with _ended_by_training():
            send(self._connection, message)


@contextmanager
def _ended_by_training() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise _IterationEndedError from error


class _Loader:
    """What one loader of the training has in this process."""

    def __init__(self, request: OpenLoader, threads: ThreadPoolExecutor) -> None:
        planner = request.planner
        self.num_workers = request.num_workers
        self._reader = ShardReader(planner.manifest, cache=request.cache)
        self._engine = _opened_engine(request, threads)
        num_batches_ahead = self._engine.num_batches_ahead
        self.opened = Opened(
            num_batches_ahead=num_batches_ahead, memory_mb=self._engine.memory_mb()
        )
        self._ahead = Prefetcher(planner, self._reader, num_batches_ahead=num_batches_ahead)
        self._slots: dict[int, list[list[np.ndarray]]] = {}  # of each ring
        self._iterations: list[tuple[Thread, socket.socket]] = []

    def begin(self, request: Begin, iteration: int, ring: int) -> None:
        """Starts the thread of an iteration, given the descriptors of its socket and memory."""
        ours = socket.socket(fileno=iteration)  # first, so that it is closed if the rest fails
        if request.ring not in self._slots:
            layout = request.layout
            memory = mapped(ring, layout.num_bytes)
            self._slots[request.ring] = [
                layout.arrays(layout.slot_memory(memory, slot)) for slot in range(layout.num_slots)
            ]
        if request.epoch is None:
            plans = self._ahead.stream(request.start)
        else:
            plans = self._ahead.epoch(request.epoch, request.start)
        self._iterations = [one for one in self._iterations if one[0].is_alive()]
        thread = Thread(
            target=self._iterate, args=(plans, self._slots[request.ring], ours), daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the limit of threads
            ours.close()
            raise
        self._iterations.append((thread, ours))

    def close(self) -> None:
        """Ends the iterations, and gives everything back."""
        for thread, iteration in self._iterations:
            with suppress(OSError):  # It may have ended, or the training has closed its side.
                iteration.shutdown(socket.SHUT_RDWR)
            thread.join()
        self._engine.close()
        self._ahead.close()
        self._reader.close()

    def _iterate(
        self, plans: Iterator[Plan], slots: list[list[np.ndarray]], iteration: socket.socket
    ) -> None:
        in_work: deque[int] = deque()  # slots, in the order of the plans

        with iteration, _TrainingSide(iteration) as training:

            def take(plan: Plan) -> list[np.ndarray]:
                in_work.append(training.free_slot())
                return slots[in_work[-1]]

            try:
                with closing(self._engine.run(self._reader, plans, take)) as batches:
                    for one in batches:
                        made = Made(
                            slot=in_work.popleft(),
                            plan=one.plan,
                            samples=one.samples if isinstance(one, PackedBatch) else {},
                            errors={b: Failed.of(error) for b, error in one.errors.items()},
                            times=one.times,
                        )
                        del one
                        training.send(made)
                training.send(Ended())
            except _IterationEndedError:
                pass
            except BaseException as error:  # A worker may raise SystemExit.
                _report(training, error)


def _report(training: _TrainingSide, failure: BaseException) -> None:
    """Sends the failure. The process ends if even that fails, such as for a lack of memory.

    The training then learns of the end at once. It would wait for a silent process.
    """
    try:
        with suppress(_IterationEndedError):
            training.send(Failed.of(failure))
    except BaseException:
        with suppress(BaseException):
            traceback.print_exception(failure)
        os._exit(1)


def _opened_engine(
    request: OpenLoader, threads: ThreadPoolExecutor
) -> ThreadedEngine | PackingReader:
    planner, work, num_workers = request.planner, request.work, request.num_workers
    if isinstance(work, ReadVideos):
        is_bt709 = planner.manifest.color_matrices == ColorMatrix.BT709
        samples = SampleReader(
            is_bt709=is_bt709,
            decodes=work.decodes,
            batch_size=planner.batch_size,
            sample_bytes=work.sample_bytes,
            num_workers=num_workers,
            threads=threads,
        )
        return PackingReader(samples)
    if work.engine == EngineName.REFERENCE:
        import torch

        torch.set_num_threads(1)  # the engine's own threads use all cores
    return open_cpu_engine(
        work.engine,
        planner.spec,
        dtype=work.dtype,
        batch_size=planner.batch_size,
        num_workers=num_workers,
        lookahead_mb=work.lookahead_mb,
        picture_px=work.picture_px,
        threads=threads,
    )


class _Server:
    """Answers the requests of the training."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._loaders: dict[int, _Loader] = {}
        # Loaders that ask for the same number of threads share them. So a student's two streams do
        # not have twice as many threads as there are cores. The last one ends them.
        self._threads: dict[int, ThreadPoolExecutor] = {}

    def answer(self, request: Request) -> Reply:
        if isinstance(request, OpenLoader):
            try:
                loader = _Loader(request, self._threads_for(request.num_workers))
                self._loaders[request.loader] = loader
            finally:
                self._end_unused_threads()
            return loader.opened
        if isinstance(request, CloseLoader):
            self._loaders.pop(request.loader).close()
            self._end_unused_threads()
            return Done()
        iteration, ring = _descriptors(self._control, 2)
        try:
            self._loaders[request.loader].begin(request, iteration, ring)
        finally:
            os.close(ring)
        return Done()

    def _threads_for(self, num_workers: int) -> ThreadPoolExecutor:
        if num_workers not in self._threads:
            self._threads[num_workers] = ThreadPoolExecutor(num_workers, "loader")
        return self._threads[num_workers]

    def _end_unused_threads(self) -> None:
        for unused in self._threads.keys() - {one.num_workers for one in self._loaders.values()}:
            self._threads.pop(unused).shutdown()


def _descriptors(control: socket.socket, number: int) -> list[int]:
    _, descriptors, _, _ = socket.recv_fds(control, 1, number)
    if len(descriptors) != number:
        raise OSError(
            "the descriptors of an iteration did not arrive; is the limit of open files"
            " too low (ulimit -n)?"
        )
    return descriptors


def _watch_parent(pid: int) -> None:
    while os.getppid() == pid:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


def main(descriptor: int, parent_pid: int, log_level: int) -> None:
    """Serves the requests that come over a socket until it closes."""
    faulthandler.enable()
    # A core file would hold all batches, and the training would learn of the death only after it is
    # written.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Ctrl-C and a scheduler's SIGTERM go to the whole group. The training may still want batches,
    # and this process ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(OSError):  # Whatever a library prints stays out of the training's output.
        os.dup2(2, 1)
    Thread(target=_watch_parent, args=(parent_pid,), daemon=True).start()
    collect_log_records(log_level)
    control = socket.socket(fileno=descriptor)
    connection = Connection(os.dup(descriptor))
    server = _Server(control)
    while True:
        try:
            request = connection.recv()
        except (EOFError, ConnectionError):
            os._exit(0)  # without waiting for work that nobody wants
        try:
            reply = server.answer(request)
        except Exception as error:
            reply = Failed.of(error)
        try:
            send(connection, reply)
        except ConnectionError:
            os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
