"""A slot is reused exactly when no tensor refers to it, and keeping batches never blocks."""

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders.loader_process.ring import MAX_KEPT_BATCHES, Ring, RingLayout
from tests.loaders.forks import forks

LAYOUT = RingLayout(shapes=((2, 1, 3, 4, 4, 3), (2, 2, 3, 4, 4, 3)), dtype="float32", num_slots=5)


def _slots(ring: Ring) -> list[list[np.ndarray]]:
    """The arrays of each slot."""
    layout = ring.layout
    return [layout.arrays(layout.slot_memory(ring.memory, n)) for n in range(layout.num_slots)]


class Other:
    """The other process: fills the slots that it is given with numbers of batches."""

    def __init__(self, ring: Ring) -> None:
        self.free: list[int] = []
        self._slots = _slots(ring)

    def make(self, number: int) -> int:
        """The slot of a new batch."""
        slot = self.free.pop()
        for array in self._slots[slot]:
            array[:] = number
        return slot


def _tensors(ring: Ring, slot: int) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in ring.views(slot)]


@given(keeps=st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_what_is_kept_never_changes_and_what_is_not_kept_is_used_again(keeps: list[int]) -> None:
    """Batch n is kept until `keeps[n]` further ones have come."""
    ring = Ring(LAYOUT)
    other = Other(ring)
    ring.attach(other.free.append)
    held: dict[int, tuple[int, list[torch.Tensor]]] = {}
    for number, keep in enumerate(keeps):
        assert other.free, "the consumer would wait for ever"
        held[number] = number + keep, _tensors(ring, other.make(number))
        assert all(
            bool((tensor == batch).all()) for batch, (_, kept) in held.items() for tensor in kept
        )
        held = {batch: one for batch, one in held.items() if one[0] > number}
        num_kept = min(len(held), MAX_KEPT_BATCHES)
        assert len(other.free) >= LAYOUT.num_slots - num_kept
    held.clear()
    assert sorted(other.free) == list(range(LAYOUT.num_slots))


@pytest.mark.parametrize(
    "view",
    [
        lambda array: torch.from_numpy(array)[0, :, 1].movedim(-1, 0),
        lambda array: torch.from_numpy(array.reshape(4, 3, 4, 4, 3)[1].transpose(3, 0, 1, 2)),
    ],
    ids=["of a tensor", "of an array"],
)
def test_a_view_keeps_its_slot(view: Callable[[np.ndarray], torch.Tensor]) -> None:
    ring = Ring(LAYOUT)
    other = Other(ring)
    ring.attach(other.free.append)
    slot = other.make(7)
    part = view(ring.views(slot)[1])
    assert slot not in other.free
    assert part.eq(7).all()
    del part
    assert slot in other.free


def test_a_batch_outlives_its_ring() -> None:
    ring = Ring(LAYOUT)
    other = Other(ring)
    ring.attach(other.free.append)
    tensors = _tensors(ring, other.make(3))
    ring.detach()
    del ring, other
    assert all(bool(tensor.eq(3).all()) for tensor in tensors)


def test_slots_that_come_back_between_iterations_serve_the_next_one() -> None:
    ring = Ring(LAYOUT)
    first, second = Other(ring), Other(ring)
    ring.attach(first.free.append)
    kept = _tensors(ring, first.make(1))
    ring.detach()
    ring.attach(second.free.append)
    assert len(second.free) == LAYOUT.num_slots - 1
    del kept
    assert sorted(second.free) == list(range(LAYOUT.num_slots))


@forks
def test_a_forked_process_gives_no_slot_back() -> None:
    """It has copies of the tensors, and the same socket."""
    ring = Ring(LAYOUT)
    other = Other(ring)
    ring.attach(other.free.append)
    tensors = _tensors(ring, other.make(1))
    num_free = len(other.free)
    pid = os.fork()
    if pid == 0:
        del tensors
        os._exit(len(other.free) - num_free)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    del tensors
    assert len(other.free) == num_free + 1


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_slots_and_groups_do_not_overlap(dtype: str) -> None:
    layout = RingLayout(shapes=LAYOUT.shapes, dtype=dtype, num_slots=3)
    ring = Ring(layout)
    arrays = [array for slot in _slots(ring) for array in slot]
    for number, array in enumerate(arrays):
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(arrays))
    assert all(array.ctypes.data % 64 == 0 for array in arrays)
    assert [array.shape for array in arrays[:2]] == list(LAYOUT.shapes)
    assert all(array.dtype == np.dtype(dtype) for array in arrays)
