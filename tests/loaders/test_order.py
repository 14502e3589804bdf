"""Orders: permutations, unrelated between epochs and seeds; every place exactly once over ranks."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loaders.order import epoch_batch, epoch_order, num_batches, stream_batch

sizes = st.integers(1, 200)
worlds = st.integers(1, 5)
batch_sizes = st.integers(1, 9)


@given(num=st.integers(0, 300), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**40))
def test_an_epoch_is_a_permutation(num: int, seed: int, epoch: int) -> None:
    order = epoch_order(num, seed=seed, epoch=epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(num))
    np.testing.assert_array_equal(order, epoch_order(num, seed=seed, epoch=epoch))


def test_without_shuffle_the_order_is_the_manifests() -> None:
    np.testing.assert_array_equal(epoch_order(5, seed=1, epoch=2, shuffle=False), np.arange(5))


def test_orders_of_epochs_and_seeds_are_not_correlated() -> None:
    num = 3000
    orders = [epoch_order(num, seed=seed, epoch=epoch) for seed in range(4) for epoch in range(6)]
    for one, other in combinations(orders, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(num)
        # A random permutation has one fixed point on average.
        assert (one == other).sum() < 12


@given(num=sizes, batch_size=batch_sizes, world_size=worlds)
def test_every_video_once_per_epoch_and_ranks_equal(
    num: int, batch_size: int, world_size: int
) -> None:
    order = epoch_order(num, seed=3, epoch=1)
    count = num_batches(num, batch_size=batch_size, world_size=world_size)
    served = np.array(
        [
            [
                epoch_batch(order, index, batch_size=batch_size, rank=rank, world_size=world_size)
                for rank in range(world_size)
            ]
            for index in range(count)
        ]
    )
    assert served.shape == (count, world_size, batch_size)
    # One global batch after the other, the padding at the very end and less than one global batch.
    flat = served.ravel()
    np.testing.assert_array_equal(flat[:num], order)
    assert (flat[num:] == -1).all()
    assert len(flat) - num < batch_size * world_size


@given(num=sizes, batch_size=batch_sizes, world_size=worlds, first=st.integers(0, 50))
def test_the_stream_is_the_epochs_end_to_end(
    num: int, batch_size: int, world_size: int, first: int
) -> None:
    steps = range(first, first + 4)
    parts = [
        stream_batch(num, step, seed=5, batch_size=batch_size, rank=rank, world_size=world_size)
        for step in steps
        for rank in range(world_size)
    ]
    positions = np.concatenate([part[0] for part in parts])
    epochs = np.concatenate([part[1] for part in parts])
    places = first * batch_size * world_size + np.arange(len(positions))
    np.testing.assert_array_equal(epochs, places // num)
    expected = [epoch_order(num, seed=5, epoch=int(place // num))[place % num] for place in places]
    np.testing.assert_array_equal(positions, expected)
