"""Copies batches to a GPU from pinned memory, at most two batches ahead of the training.

A thread asks for the batches, and the copies run on a stream of their own. The training's thread
launches nothing: its stream waits for an event. The CPU memory of a batch is used again when its
copy is over. The GPU memory is used again when the training's stream is done with it.
"""

import logging
import queue
import weakref
from collections.abc import Generator
from contextlib import closing, suppress
from threading import Thread
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch

_logger = logging.getLogger(__name__)

MAX_BATCHES_ON_DEVICE = 4
"""The one in use, the one before it until the caller lets go of it, and the two ahead."""

T = TypeVar("T")


class Copy(Protocol):
    """Tensors on their way to a device."""

    def wait(self) -> None:
        """Returns when they have arrived. Other threads go on meanwhile."""
        ...

    def take(self) -> list[torch.Tensor]:
        """The tensors. What the caller launches next waits for them."""
        ...


class CopyStream(Protocol):
    """Begins copies to a device; they take place one after the other."""

    def copy(self, tensors: list[torch.Tensor]) -> Copy:
        """Begins the copies of some tensors, and does not wait for them."""
        ...


class CudaCopyStream:
    """Copies on a CUDA stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, tensors: list[torch.Tensor]) -> Copy:
        """See `CopyStream`."""
        with torch.cuda.stream(self._stream):
            copied = [tensor.to(self._device, non_blocking=True) for tensor in tensors]
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._stream)
        return _CudaCopy(copied, arrived)


class _CudaCopy:
    def __init__(self, tensors: list[torch.Tensor], arrived: torch.cuda.Event) -> None:
        self._tensors, self._arrived = tensors, arrived

    def wait(self) -> None:
        self._arrived.synchronize()

    def take(self) -> list[torch.Tensor]:
        stream = torch.cuda.current_stream(self._tensors[0].device)
        stream.wait_event(self._arrived)
        for tensor in self._tensors:
            # They were allocated on the other stream, which must not use their memory again before
            # this one is done with it.
            tensor.record_stream(stream)
        return self._tensors


class Transferred(Generic[T]):
    """Something that is not copied, and tensors that are."""

    def __init__(self, rest: T, tensors: list[torch.Tensor]) -> None:
        self.rest, self.tensors = rest, tensors


def transferred(
    batches: Generator[Transferred[T]], stream: CopyStream
) -> Generator[Transferred[T]]:
    """Yields the same items, with their tensors on the device.

    A thread begins the copies of at most two batches ahead: one is ready, and one waits for its
    place.

    Closing the generator closes `batches`. An error of `batches` is raised in place of the batch.
    """
    ready: queue.Queue[tuple[T, Copy] | BaseException | None] = queue.Queue(maxsize=1)
    thread = _TransferThread(batches, stream, ready)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            rest, copy = item
            del item
            batch = Transferred(rest, copy.take())
            del copy
            yield batch
            del batch
    finally:
        thread.stop()


class _TransferThread(Thread, Generic[T]):
    def __init__(
        self,
        batches: Generator[Transferred[T]],
        stream: CopyStream,
        ready: "queue.Queue[tuple[T, Copy] | BaseException | None]",
    ) -> None:
        super().__init__(name="transfer", daemon=True)
        self._batches, self._stream, self._ready = batches, stream, ready
        self._is_wanted = True

    def run(self) -> None:
        try:
            with closing(self._batches) as batches:
                for batch in batches:
                    copy = self._stream.copy(batch.tensors)
                    self._ready.put((batch.rest, copy))
                    copy.wait()  # and only then let go of the memory
                    del batch, copy
                    if not self._is_wanted:
                        return
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def stop(self) -> None:
        """Ends the thread, and waits for it."""
        self._is_wanted = False
        while self.is_alive():
            with suppress(queue.Empty):
                self._ready.get(timeout=0.05)  # it may wait for room
        self.join()


def pin(device: torch.device, memory: np.ndarray) -> None:
    """Pins memory until it is freed. A GPU then copies from it without the help of a CPU.

    Args:
        device: The GPU, with its number. Without a number it would be the first GPU in a new
            thread, and CUDA would take memory there too.
        memory: (N,) uint8, from `numpy.frombuffer`. So every array that lies in this memory refers
            to this array, some through further ones. This array refers to the owner of the memory.
    """
    assert isinstance(memory.base, memoryview)
    address, num_bytes = memory.ctypes.data, memory.nbytes
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        code = int(runtime.cudaHostRegister(address, num_bytes, 0))
    if code != 0:
        _logger.warning(
            "%d MB cannot be pinned (CUDA error %d), so copies to the GPU are slower; `ulimit -l` "
            "may be too low",
            num_bytes >> 20,
            code,
        )
        return
    # NumPy 2.5 lets go of the memory of an array before it calls `_unpin`. So the owner is kept.
    weakref.finalize(memory, _unpin, device, address, memory.base).atexit = False


def _unpin(device: torch.device, address: int, _: memoryview) -> None:
    with torch.cuda.device(device):
        torch.cuda.cudart().cudaHostUnregister(address)  # type: ignore[no-untyped-call]
