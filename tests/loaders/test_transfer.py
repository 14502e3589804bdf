"""The order of a hand-over to a device, on a stream that only records."""

import gc
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders import LoaderError, usable_device
from loaders.engines.buffers import BufferPool
from loaders.loader_process.ring import Ring, RingLayout, mapped
from loaders.transfer import (
    MAX_BATCHES_ON_DEVICE,
    CudaCopyStream,
    Transferred,
    pin,
    transferred,
)
from tests.paired import paired


@dataclass
class FakeStream:
    """Copies at once, and records; a copy arrives when the test says so."""

    events: list[str] = field(default_factory=list)
    arrived: dict[int, threading.Event] = field(default_factory=dict)
    copied: list[weakref.ref[torch.Tensor]] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def copy(self, tensors: list[torch.Tensor]) -> "FakeCopy":
        number = int(tensors[0][0])
        self.events.append(f"copy {number} in {threading.current_thread().name}")
        self.arrived[number] = threading.Event()
        copied = [tensor.clone() for tensor in tensors]
        self.copied.append(weakref.ref(copied[0]))
        self.begun.release()
        return FakeCopy(self, number, copied)


@dataclass
class FakeCopy:
    stream: FakeStream
    number: int
    tensors: list[torch.Tensor]

    def wait(self) -> None:
        self.stream.arrived[self.number].wait()
        self.stream.events.append(f"arrived {self.number}")

    def take(self) -> list[torch.Tensor]:
        self.stream.events.append(f"take {self.number} in {threading.current_thread().name}")
        return self.tensors


class Source:
    """Makes batches 0, 1, ... in one piece of memory each, and says when one is let go of."""

    def __init__(self, stream: FakeStream, number: int, error: Exception | None = None) -> None:
        self._stream, self._number, self._error = stream, number, error
        self.is_closed = False

    def batches(self) -> Generator[Transferred[int]]:
        try:
            for number in range(self._number):
                batch = Transferred(number, [torch.full((3,), number), torch.rand(2, 2)])
                yield batch
                del batch
                self._stream.events.append(f"let go of {number}")
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True
            self._stream.events.append("closed")


def test_one_batch_is_copied_ahead_and_memory_is_kept_until_it_arrived() -> None:
    stream = FakeStream()
    moved = transferred(Source(stream, 4).batches(), stream)
    with ThreadPoolExecutor(1, "training") as training:
        consumed = training.submit(list, moved)
        for number in range(4):
            stream.begun.acquire()
            assert f"let go of {number}" not in stream.events
            stream.arrived[number].set()
        batches = consumed.result()
    assert [batch.rest for batch in batches] == [0, 1, 2, 3]
    assert [int(batch.tensors[0][0]) for batch in batches] == [0, 1, 2, 3]
    for number in range(4):
        copied, arrived = (
            stream.events.index(event)
            for event in (f"copy {number} in transfer", f"arrived {number}")
        )
        assert copied < arrived < stream.events.index(f"let go of {number}")
        assert f"take {number} in training_0" in stream.events


class _Arrives(FakeStream):
    """Every copy arrives at once."""

    def copy(self, tensors: list[torch.Tensor]) -> FakeCopy:
        copy = super().copy(tensors)
        self.arrived[copy.number].set()
        return copy


def test_the_thread_is_at_most_two_batches_ahead() -> None:
    stream = _Arrives()
    moved = transferred(Source(stream, 50).batches(), stream)
    for number in range(50):
        assert next(moved).rest == number
        num_begun = sum(event.startswith("copy") for event in stream.events)
        # One waits in the queue, and one waits for room there.
        assert num_begun <= number + 3
    assert list(moved) == []


def test_so_many_batches_are_on_the_device_at_most() -> None:
    """The consumer lets go of a batch once it has the next one, as a loop does."""
    stream = _Arrives()
    moved = transferred(Source(stream, 20).batches(), stream)
    kept = next(moved)
    for _ in range(3):
        stream.begun.acquire()
    for _ in range(1, 18):
        batch = next(moved)
        stream.begun.acquire()  # the copy for which this made room
        alive = sum(tensor() is not None for tensor in stream.copied)
        assert alive == MAX_BATCHES_ON_DEVICE
        kept = batch
    del kept
    moved.close()


def test_an_error_is_raised_in_its_place() -> None:
    stream = _Arrives()
    source = Source(stream, 2, LoaderError("video 7 is bad"))
    moved = transferred(source.batches(), stream)
    assert [next(moved).rest, next(moved).rest] == [0, 1]
    with pytest.raises(LoaderError, match="video 7 is bad"):
        next(moved)
    assert source.is_closed


def test_closing_ends_the_thread_and_the_source() -> None:
    stream = _Arrives()
    source = Source(stream, 50)
    moved = transferred(source.batches(), stream)
    next(moved)
    moved.close()
    assert source.is_closed
    assert not any(thread.name == "transfer" for thread in threading.enumerate())


def test_closing_keeps_the_memory_until_the_copy_arrived() -> None:
    stream = FakeStream()
    moved = transferred(Source(stream, 50).batches(), stream)
    with ThreadPoolExecutor(1) as training:
        first = training.submit(next, moved)
        for number in range(2):
            stream.begun.acquire()
            stream.arrived[number].set()
        stream.begun.acquire()
        first.result()
        stream.arrived[2].set()  # it waits for room in the queue
        moved.close()
    assert stream.events.index("arrived 2") < stream.events.index("closed")


class FakeCuda:
    """CUDA's streams, events and tensors, which only record."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.current = "training"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: "copies")
        monkeypatch.setattr(torch.cuda, "stream", self._used)
        monkeypatch.setattr(torch.cuda, "Event", lambda: self)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)

    @contextmanager
    def _used(self, stream: str) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    # A tensor.
    device = torch.device("cuda:0")

    def to(self, device: torch.device, *, non_blocking: bool) -> "FakeCuda":
        assert non_blocking
        self.events.append(f"copy on {self.current}")
        return self

    def record_stream(self, stream: object) -> None:
        self.events.append(f"memory is used on {self.current}")

    # An event.
    def record(self, stream: str) -> None:
        self.events.append(f"record on {stream}")

    def synchronize(self) -> None:
        self.events.append("the thread waits")

    # A stream.
    def wait_event(self, event: object) -> None:
        self.events.append(f"{self.current} waits")


def test_the_event_stands_behind_the_copies_and_before_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda: Any = FakeCuda(monkeypatch)
    copy = CudaCopyStream(torch.device("cuda:0")).copy([cuda, cuda])
    assert cuda.events == ["copy on copies", "copy on copies", "record on copies"]
    copy.take()
    assert cuda.events[3:] == ["training waits", *["memory is used on training"] * 2]
    copy.wait()
    assert cuda.events[6:] == ["the thread waits"]


def _of_a_ring() -> np.ndarray:
    return Ring(RingLayout(shapes=((2, 1024),), dtype="uint8", num_slots=2)).memory


def _of_a_pool() -> np.ndarray:
    made: list[np.ndarray] = []
    (array,) = BufferPool(1, made.append).take([(2, 1 << 25)], "uint8")
    assert array.base is made[0]  # what lies in the memory keeps all of it
    return made[0]


@pytest.mark.parametrize("make", [_of_a_ring, _of_a_pool])
def test_memory_is_still_there_when_it_is_unpinned(
    make: Callable[[], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy 2.5, which needs Python 3.12, tells an array's end after it has freed its memory."""
    was_there: list[bool] = []

    class Runtime:
        def cudaHostRegister(self, address: int, num_bytes: int, flags: int) -> int:  # noqa: N802
            return 0

        def cudaHostUnregister(self, address: int) -> None:  # noqa: N802
            was_there.append(_is_mapped(address))

    monkeypatch.setattr(torch.cuda, "cudart", Runtime)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    memory = make()
    address, part = memory.ctypes.data, memory[1024:].view("uint16")
    pin(torch.device("cuda:0"), memory)
    del memory
    gc.collect()
    assert was_there == []  # a part of it is in use
    del part
    assert was_there == [True]
    if make is _of_a_ring:  # malloc may keep what it gets back
        assert not _is_mapped(address)


def _is_mapped(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, _, end = line.partition(" ")[0].partition("-")
        if int(begin, 16) <= address < int(end, 16):
            return True
    return False


@pytest.mark.gpu
def test_memory_is_pinned_until_its_end() -> None:
    device = usable_device("cuda")
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, mmap.PAGESIZE)
    for _ in range(3):  # at the same address, as a rule
        memory = mapped(descriptor, mmap.PAGESIZE)
        assert not torch.from_numpy(memory).is_pinned()
        pin(device, memory)
        assert torch.from_numpy(memory).is_pinned()
        del memory
    os.close(descriptor)


@pytest.mark.gpu
def test_a_gpu_gets_what_was_sent() -> None:
    device = torch.device("cuda")
    sent = [torch.rand(3, 1 << 20).pin_memory() for _ in range(5)]
    batches = (Transferred(n, [tensor]) for n, tensor in enumerate(sent))
    moved = transferred(batches, CudaCopyStream(device))
    for batch, tensor in paired(moved, sent):
        assert batch.tensors[0].is_cuda
        assert torch.equal(batch.tensors[0].cpu(), tensor)
