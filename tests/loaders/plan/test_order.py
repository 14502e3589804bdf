"""Orders are permutations, unrelated between epochs and seeds, and ranks serve each place once."""

import tracemalloc
from itertools import chain, combinations, islice
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.plan.order import (
    Order,
    ShuffledOrder,
    epoch_batches,
    epoch_order,
    num_batches,
    shard_uses,
    stream_batches,
)

sizes = st.integers(1, 200)
worlds = st.integers(1, 5)
batch_sizes = st.integers(1, 9)


@given(num=st.integers(0, 300), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**40))
def test_an_epoch_is_a_permutation(num: int, seed: int, epoch: int) -> None:
    order = epoch_order(num, seed=seed, epoch=epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(num))
    np.testing.assert_array_equal(order, epoch_order(num, seed=seed, epoch=epoch))


def test_a_user_may_name_every_order_that_shuffles() -> None:
    assert set(get_args(ShuffledOrder)) == set(Order) - {Order.MANIFEST}


def test_without_shuffle_the_order_is_the_manifests() -> None:
    np.testing.assert_array_equal(epoch_order(5, seed=1, epoch=2, order="manifest"), np.arange(5))


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
    share = {"batch_size": batch_size, "world_size": world_size}
    ranks = [
        list(epoch_batches(1, {1: order}.__getitem__, rank=rank, **share))
        for rank in range(world_size)
    ]
    served = np.array(ranks).swapaxes(0, 1)
    assert served.shape == (count, world_size, batch_size)
    # Global batches follow each other. Only the end is padded, by less than one global batch.
    flat = served.ravel()
    np.testing.assert_array_equal(flat[:num], order)
    assert (flat[num:] == -1).all()
    assert len(flat) - num < batch_size * world_size


@given(num=sizes, batch_size=batch_sizes, world_size=worlds, first=st.integers(0, 50))
def test_the_stream_is_the_epochs_end_to_end(
    num: int, batch_size: int, world_size: int, first: int
) -> None:
    def order_of(epoch: int) -> np.ndarray:
        return epoch_order(num, seed=5, epoch=epoch)

    share = {"batch_size": batch_size, "world_size": world_size}
    ranks = [
        islice(stream_batches(num, order_of, start=first, rank=rank, **share), 4)
        for rank in range(world_size)
    ]
    parts = list(chain.from_iterable(zip(*ranks, strict=True)))
    positions = np.concatenate([part[0] for part in parts])
    epochs = np.concatenate([part[1] for part in parts])
    places = first * batch_size * world_size + np.arange(len(positions))
    np.testing.assert_array_equal(epochs, places // num)
    expected = [order_of(int(place // num))[place % num] for place in places]
    np.testing.assert_array_equal(positions, expected)


@given(
    shards=st.lists(st.integers(0, 40), max_size=300),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 9),
)
def test_a_windowed_order_reads_eight_shards_at_a_time(
    shards: list[int], seed: int, epoch: int
) -> None:
    array = np.array(shards, dtype=np.int64)
    order = epoch_order(len(array), seed=seed, epoch=epoch, order="windowed", shards=array)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(array)))
    served = array[order]
    first_of = {shard: place for place, shard in reversed(list(enumerate(served.tolist())))}
    last_of = {shard: place for place, shard in enumerate(served.tolist())}
    for place in range(len(served)):
        being_read = [s for s in first_of if first_of[s] <= place <= last_of[s]]
        assert len(being_read) <= 8


def test_a_windowed_order_mixes_within_and_between_windows() -> None:
    shards = np.repeat(np.arange(40), 50)
    orders = [
        epoch_order(2000, seed=0, epoch=epoch, order="windowed", shards=shards) for epoch in (0, 1)
    ]
    windows = [set(shards[order[:400]]) for order in orders]
    assert all(len(window) == 8 for window in windows)
    assert windows[0] != windows[1]
    # In a window, neighbours come from all its shards, so one in eight comes from the same shard.
    repeats = (np.diff(shards[orders[0]]) == 0).mean()
    assert 0.08 < repeats < 0.18


@pytest.mark.slow
@pytest.mark.parametrize("order", ["global", "windowed"])
def test_ten_million_videos_are_planned_in_bounded_memory(order: Order) -> None:
    num_videos, batch_size = 10_000_000, 16
    shards = np.arange(num_videos, dtype=np.int64) // 1000
    tracemalloc.start()
    try:
        planned = epoch_order(num_videos, seed=0, epoch=3, order=order, shards=shards)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 * num_videos  # bytes
    assert np.bincount(planned, minlength=num_videos).max() == 1
    # The middle of the epoch, and where the next one begins.
    for step in (num_videos // batch_size // 2, num_videos // batch_size - 1):
        positions, epochs = next(
            stream_batches(num_videos, lambda epoch: planned, start=step, batch_size=batch_size)
        )
        np.testing.assert_array_equal(
            positions, planned[step * batch_size : (step + 1) * batch_size]
        )
        assert set(epochs.tolist()) == {0}


@given(
    shards=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    batch_size=batch_sizes,
    world=worlds.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))),
    epoch=st.integers(0, 3),
)
def test_shard_uses_are_what_the_batches_of_a_rank_show(
    shards: list[int], batch_size: int, world: tuple[int, int], epoch: int
) -> None:
    num, array, (rank, world_size) = len(shards), np.array(shards), world
    options = {"batch_size": batch_size, "rank": rank, "world_size": world_size}

    def order_of(epoch: int) -> np.ndarray:
        return epoch_order(num, seed=7, epoch=epoch)

    seen: dict[int, list[int]] = {}
    for step, places in enumerate(epoch_batches(epoch, order_of, **options)):
        for place in places:
            if place >= 0:
                seen.setdefault(shards[place], []).append(step)
    expected = [(shard, steps[0], steps[-1]) for shard, steps in seen.items()]
    assert shard_uses(array, order_of(epoch), **options) == expected

    seen.clear()
    num_steps = (epoch + 1) * num // (batch_size * world_size) + 2
    for step, (places, epochs) in enumerate(
        islice(stream_batches(num, order_of, **options), num_steps)
    ):
        for place in places[epochs == epoch]:
            seen.setdefault(shards[place], []).append(step)
    expected = [(shard, steps[0], steps[-1]) for shard, steps in seen.items()]
    assert shard_uses(array, order_of(epoch), begin=epoch * num, **options) == expected
