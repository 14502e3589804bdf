"""Memory for batches, used again and again."""

import math
import sys
from collections.abc import Callable, Iterable
from threading import Lock

import numpy as np

_LINE = 64  # bytes of a cache line


class BufferPool:
    """Arrays that are used again once only the pool refers to them.

    Fresh memory costs a page fault every 4 KB, which takes as long as a third of the augmentation.
    A tensor made from an array refers to it, so nothing writes to a batch that the consumer keeps.
    An array begins at the start of a cache line.
    """

    def __init__(
        self, max_arrays: int, prepare: Callable[[np.ndarray], None] | None = None
    ) -> None:
        """Remembers at most `max_arrays`, because the consumer may keep some for ever.

        `prepare` gets the memory of each new array, as bytes.
        """
        self._max_arrays, self._prepare = max_arrays, prepare
        self._arrays: list[np.ndarray] = []
        self._lock = Lock()  # two iterators of one loader may run in two threads

    def take(self, shapes: Iterable[tuple[int, ...]], dtype: str) -> list[np.ndarray]:
        """Arrays of these shapes and this type; their content is undefined."""
        with self._lock:
            return [self._take(shape, dtype) for shape in shapes]

    def clear(self) -> None:
        """Gives back all memory that is not in use."""
        with self._lock:
            self._arrays = []

    def _take(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        for index in range(len(self._arrays)):
            # An unused array has two references: the pool's list and the argument of getrefcount. A
            # part of an array refers only to the memory, so the memory is checked too.
            free = sys.getrefcount(self._arrays[index]) == 2
            known = self._arrays[index]
            free = free and sys.getrefcount(known.base) == 2
            if free and known.shape == shape and known.dtype == dtype:
                return known
        array = self._aligned(shape, dtype)
        self._arrays = [*self._arrays, array][-self._max_arrays :]
        return array

    def _aligned(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        # Slices of an array keep the owner of its memory alive. Because of `frombuffer`, this array
        # is that owner, see `pin`.
        memory = np.frombuffer(np.empty(num_bytes + _LINE, np.uint8).data, np.uint8)
        if self._prepare is not None:
            self._prepare(memory)
        begin = -memory.ctypes.data % _LINE
        return memory[begin : begin + num_bytes].view(dtype).reshape(shape)
