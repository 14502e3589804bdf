"""Memory is used again as soon as nobody refers to it, and never before."""

from weakref import ref

import numpy as np
import torch

from loaders.engines.buffers import BufferPool

_SHAPE = (1 << 20,)


def take(pool: BufferPool, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    (array,) = pool.take([shape], dtype)
    return array


def test_free_memory_is_used_again() -> None:
    pool = BufferPool(max_arrays=8)
    arrays = [take(pool, _SHAPE, "uint8") for _ in range(3)]
    # The arrays themselves, because an allocator may give out the same addresses.
    known = [ref(array) for array in arrays]
    del arrays
    for _ in range(20):
        again = take(pool, _SHAPE, "uint8")
        assert any(one() is again for one in known)
        del again


def test_memory_that_somebody_has_is_not_used_again() -> None:
    pool = BufferPool(max_arrays=2)
    kept = [torch.from_numpy(take(pool, _SHAPE, "uint8").reshape(2, -1))[0] for _ in range(5)]
    new = torch.from_numpy(take(pool, _SHAPE, "uint8"))
    assert len({tensor.data_ptr() for tensor in [*kept, new]}) == 6


def test_other_shapes_and_types_have_memory_of_their_own() -> None:
    pool = BufferPool(max_arrays=8)
    place = take(pool, _SHAPE, "uint8").ctypes.data
    for shape, dtype in ((_SHAPE, "float32"), ((2, 1 << 19), "uint8")):
        other = take(pool, shape, dtype)
        assert (other.shape, other.dtype) == (shape, np.dtype(dtype))
        assert other.ctypes.data != place


def test_memory_begins_with_a_cache_line_and_its_parts_count() -> None:
    pool = BufferPool(max_arrays=8)
    array = take(pool, (3, 5, 1 << 16), "float16")
    place = array.ctypes.data
    assert place % 64 == 0
    part = array[1]
    del array
    assert take(pool, (3, 5, 1 << 16), "float16").ctypes.data != place
    del part
    assert take(pool, (3, 5, 1 << 16), "float16").ctypes.data == place


def test_arrays_that_are_taken_together_are_different_ones() -> None:
    pool = BufferPool(max_arrays=8)
    for _ in range(3):
        one, other = pool.take([_SHAPE, _SHAPE], "uint8")
        assert one is not other
        del one, other
