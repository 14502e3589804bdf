"""Memory for batches."""

import torch

from loaders.engines.buffers import BufferPool


def test_memory_is_used_again_only_when_nobody_has_it() -> None:
    pool = BufferPool(max_arrays=4)
    array = pool.take((3, 5), "float32")
    place = array.ctypes.data
    assert place % 64 == 0
    assert pool.take((3, 5), "float32").ctypes.data != place
    part, tensor = array[1], torch.from_numpy(array)[2:]
    del array
    assert pool.take((3, 5), "float32").ctypes.data != place
    del tensor
    assert pool.take((3, 5), "float32").ctypes.data != place, "a part of it is still in use"
    del part
    assert pool.take((3, 5), "float32").ctypes.data == place
    assert pool.take((3, 5), "uint8").ctypes.data != place
