"""Memory for batches, used again and again."""

import sys
from threading import Lock

import numpy as np


class BufferPool:
    """Arrays that are used again once nobody but the pool holds them.

    Fresh memory costs a page fault every 4 KB, as much time as a third of the augmentation. A
    tensor made from an array holds it, so a batch that the consumer keeps is never written to.
    """

    def __init__(self, max_arrays: int) -> None:
        """Remembers at most `max_arrays`: those that the consumer keeps are not the pool's."""
        self._max_arrays = max_arrays
        self._arrays: list[np.ndarray] = []
        self._lock = Lock()  # two iterators of one loader may run in two threads

    def take(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array of whatever content."""
        with self._lock:
            for index in range(len(self._arrays)):
                # References: the pool's list and getrefcount's own argument.
                free = sys.getrefcount(self._arrays[index]) == 2
                known = self._arrays[index]
                if free and known.shape == shape and known.dtype == dtype:
                    return known
            array = np.empty(shape, dtype)
            self._arrays = [*self._arrays[-self._max_arrays :], array]
            return array
