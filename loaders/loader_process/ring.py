"""`Ring`: memory that the loader process writes batches to, and that their tensors refer to.

The memory is an anonymous file (memfd). It has no name that could be left behind, /dev/shm does not
limit it, and it ends with the last process that maps it. A slot holds one batch. It goes back to
the loader process when no tensor refers to it any more. So a batch is never pickled, and it is
copied in one case only: a consumer that keeps more than `max_kept` batches gets copies of the
further ones. Otherwise it would wait for ever for a slot that it keeps itself.
"""

import math
import mmap
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import RLock

import numpy as np

MAX_KEPT_BATCHES = 2
"""Batches that a training may keep before it gets copies: the current one and the next."""
_PAGE_BYTES = mmap.PAGESIZE


@dataclass(frozen=True, kw_only=True)
class RingLayout:
    """What a ring holds.

    Attributes:
        shapes: The shapes of a batch's arrays: (B, V, T, S, S, 3) for each group of views, or one
            (N,) for the files that DALI gets.
        dtype: NumPy's name of their type.
        num_slots: How many batches there is room for.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    num_slots: int

    @property
    def num_bytes(self) -> int:
        """The size of the whole ring."""
        return self.num_slots * self.slot_bytes

    @property
    def slot_bytes(self) -> int:
        """The size of a slot."""
        return sum(self._array_bytes)

    def slot_memory(self, memory: np.ndarray, slot: int) -> np.ndarray:
        """(N,) uint8, the memory of a slot in that of the ring.

        NumPy lets a view of a view refer to the first array of the chain. That is the result here,
        because it refers to a `memoryview`. A slice of `memory` would lead back to `memory`.
        """
        begin = slot * self.slot_bytes
        return np.frombuffer(memory.data[begin : begin + self.slot_bytes], np.uint8)

    def arrays(self, slot_memory: np.ndarray) -> list[np.ndarray]:
        """The arrays in a slot, one for each shape; each begins at the start of a page."""
        arrays, begin = [], 0
        for shape, num_bytes in zip(self.shapes, self._array_bytes, strict=True):
            arrays.append(np.ndarray(shape, self.dtype, slot_memory, begin))
            begin += num_bytes
        return arrays

    @cached_property
    def _array_bytes(self) -> list[int]:
        itemsize = np.dtype(self.dtype).itemsize
        sizes = [math.prod(shape) * itemsize for shape in self.shapes]
        return [-(-size // _PAGE_BYTES) * _PAGE_BYTES for size in sizes]


def mapped(descriptor: int, num_bytes: int) -> np.ndarray:
    """(num_bytes,) uint8, the memory of a file, which stays mapped as long as arrays lie in it."""
    memory = mmap.mmap(descriptor, num_bytes)
    if hasattr(mmap, "MADV_DONTDUMP"):  # a core file would take long to write
        memory.madvise(mmap.MADV_DONTDUMP)
    return np.frombuffer(memory, np.uint8)


class Ring:
    """The training's side of the memory.

    Attributes:
        layout: What it holds.
        descriptor: The file, for the other process.
        memory: (N,) uint8, all of it.
    """

    def __init__(self, layout: RingLayout, max_kept: int = MAX_KEPT_BATCHES) -> None:
        """Reserves the memory. A page takes memory only once it is written.

        `max_kept` is how many batches the consumer may keep before it gets copies.
        """
        self.layout, self._max_kept = layout, max_kept
        self.descriptor = os.memfd_create("timebalance-loader")
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, layout.num_bytes)
        self.memory = mapped(self.descriptor, layout.num_bytes)
        self._owner_pid = os.getpid()
        self._free = list(range(layout.num_slots))
        self._lent: set[int] = set()  # to the other process
        self._num_kept = 0  # by the consumer
        self._give: Callable[[int], None] | None = None
        # A tensor may be freed at any point, even while this thread has the lock.
        self._lock = RLock()

    def attach(self, give: Callable[[int], None]) -> None:
        """Calls `give` with every slot that is free, now and whenever one becomes free."""
        with self._lock:
            self._give = give
            self._give_free_slots()

    def detach(self) -> None:
        """Takes back the slots that were given away. The other process must be done with them."""
        with self._lock:
            self._give = None
            self._free += self._lent
            self._lent.clear()

    def views(self, slot: int) -> list[np.ndarray]:
        """The arrays of a slot that the other process has filled, or copies of them."""
        with self._lock:
            self._lent.remove(slot)
            self._num_kept += 1
            is_copy = self._num_kept > self._max_kept
        memory = self.layout.slot_memory(self.memory, slot)
        arrays = self.layout.arrays(memory)
        if is_copy:
            copies = [array.copy() for array in arrays]
            self._take_back(slot)
            return copies
        weakref.finalize(memory, self._take_back, slot).atexit = False
        return arrays

    def _take_back(self, slot: int) -> None:
        # A process that was forked from this one has copies of its tensors, but not the slot.
        if os.getpid() != self._owner_pid:
            return
        with self._lock:
            self._num_kept -= 1
            self._free.append(slot)
            self._give_free_slots()

    def _give_free_slots(self) -> None:
        while self._give is not None and self._free:
            slot = self._free.pop()
            self._lent.add(slot)
            try:
                self._give(slot)
            except OSError:  # The other process is dead, or its run has ended.
                return
