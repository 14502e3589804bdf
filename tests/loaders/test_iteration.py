"""A loader's own position: successive epochs, states, closing."""

import os
import pickle
import threading
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed import checkpoint
from torch.distributed.checkpoint.stateful import Stateful

from loaders import Batch, Loader, LoaderError, Subset, ViewSpec, open_loader
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.loaders.columns import without_index

ReadAs = Callable[[Manifest], Manifest]

# With threads here, and with the loader process.
pytestmark = pytest.mark.usefixtures("place")


def _same(ours: Batch, theirs: Batch) -> bool:
    return ours.keys == theirs.keys and all(
        torch.equal(ours.views[name], theirs.views[name]) for name in theirs.views
    )


def _all_same(some: list[Batch], others: Iterable[Batch]) -> bool:
    """Whether there are batches, and the others are the same, one for one."""
    return bool(some) and all(_same(*pair) for pair in zip(some, others, strict=True))


@pytest.fixture
def loader(numbered_shards: Manifest, tiny_views: ViewSpec, read_as: ReadAs) -> Loader:
    return open_loader(read_as(numbered_shards), tiny_views, batch_size=3, seed=4)


def test_iterations_serve_one_epoch_after_the_other(loader: Loader) -> None:
    assert loader.epoch == 0
    for epoch in range(3):
        served = list(loader)
        assert len(served) == len(loader) == 4
        assert _all_same(served, loader.batches(epoch))
        assert loader.epoch == epoch + 1
    first, second = list(loader.batches(0)), list(loader.batches(1))
    assert not any(map(_same, first, second))


def test_an_iteration_goes_on_where_the_last_one_broke_off(loader: Loader) -> None:
    whole = list(loader.batches(0))
    for index, batch in enumerate(loader):
        assert _same(batch, whole[index])
        if index == 1:
            break
    assert (loader.epoch, loader.state_dict()["batch"]) == (0, 2)
    rest = list(loader)
    assert len(rest) == 2
    assert _all_same(rest, whole[2:])
    assert (loader.epoch, loader.state_dict()["batch"]) == (1, 0)


def test_a_consumer_that_counts_leaves_no_empty_epoch(loader: Loader) -> None:
    """Lightning does this: it takes as many batches as there are and does not ask for the end."""
    for epoch in range(3):
        assert _all_same(list(islice(loader, len(loader))), loader.batches(epoch))
        assert loader.epoch == epoch
        assert loader.state_dict()["epoch"] == epoch + 1


def test_set_epoch_begins_at_its_first_batch(loader: Loader) -> None:
    next(iter(loader))
    loader.set_epoch(7)
    assert loader.epoch == 7
    assert _all_same(list(loader), loader.batches(7))
    with pytest.raises(InputError, match="epoch -1"):
        loader.set_epoch(-1)


def test_only_the_newest_iteration_goes_on(loader: Loader) -> None:
    first = iter(loader)
    next(first)
    second = iter(loader)
    assert _same(next(second), list(loader.batches(0))[1])
    with pytest.raises(LoaderError, match="iterated again"):
        next(first)
    loader.set_epoch(3)
    with pytest.raises(LoaderError, match="moved to another position"):
        next(second)


def test_batches_and_streams_do_not_move_the_loader(loader: Loader) -> None:
    next(iter(loader))
    before = loader.state_dict()
    list(loader.batches(5))
    list(islice(loader.stream(), 6))
    loader.profile(num_batches=1)
    assert loader.state_dict() == before


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.integers(0, 12),
    ranks=st.sampled_from([(1, 2), (2, 1), (2, 4), (4, 2)]),
    reads_files=st.booleans(),
)
def test_a_state_resumes_the_very_next_batch_on_any_number_of_ranks(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    steps: int,
    ranks: tuple[int, int],
    reads_files: bool,
) -> None:
    manifest = without_index(numbered_shards) if reads_files else numbered_shards

    def opened(rank: int, world_size: int) -> Loader:
        return open_loader(
            manifest,
            tiny_views,
            batch_size=4 // world_size,
            rank=rank,
            world_size=world_size,
            num_workers=1,
        )

    def endless(loader: Loader) -> Any:
        while True:
            yield from loader

    before, after = ranks
    with opened(0, before) as loader:
        for _ in islice(endless(loader), steps):
            pass
        state = loader.state_dict()
    parts = [opened(rank, after) for rank in range(after)]
    for part in parts:
        part.load_state_dict(state)
        assert part.state_dict() == state
    with opened(0, 1) as whole:
        expected = list(islice(endless(whole), steps + 3))[steps:]
    assert len(expected) == 3
    served = (islice(endless(part), 3) for part in parts)
    for batch, *shares in zip(expected, *served, strict=True):
        assert batch.keys == tuple(key for share in shares for key in share.keys)
        for name in batch.views:
            assert torch.equal(
                batch.views[name], torch.cat([share.views[name] for share in shares])
            )
    for part in parts:
        part.close()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"seed": 5}, "seed is 4, this loader's is 5"),
        ({"batch_size": 2}, "global_batch_size is 3, this loader's is 2"),
        ({"world_size": 2}, "global_batch_size is 3, this loader's is 6"),
        ({"order": "windowed"}, "order is 'global', this loader's is 'windowed'"),
        ({"subset": Subset(part="labelled", percent=50)}, "videos is "),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(
    loader: Loader, tiny_views: ViewSpec, options: dict[str, Any], name: str
) -> None:
    other = open_loader(loader.manifest, tiny_views, **{"batch_size": 3, "seed": 4, **options})
    with pytest.raises(InputError, match=name):
        other.load_state_dict(loader.state_dict())
    assert other.epoch == 0


def test_a_state_of_another_data_set_or_of_nothing_is_refused(
    loader: Loader, textured_shards: Manifest, tiny_views: ViewSpec
) -> None:
    other = open_loader(textured_shards, tiny_views, batch_size=3, seed=4)
    with pytest.raises(InputError, match=f"data is '{loader.manifest.digest}'"):
        other.load_state_dict(loader.state_dict())
    state = loader.state_dict()
    del state["batch"]
    with pytest.raises(InputError, match="lacks batch"):
        loader.load_state_dict(state)
    with pytest.raises(InputError, match="data is None"):
        loader.load_state_dict({})
    with pytest.raises(InputError, match="no usable position"):
        loader.load_state_dict({**loader.state_dict(), "epoch": "first"})
    with pytest.raises(InputError, match="start 99"):
        loader.load_state_dict({**loader.state_dict(), "batch": 99})


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # on purpose: one process
def test_a_distributed_checkpoint_holds_the_position(
    numbered_shards: Manifest, tiny_views: ViewSpec, tmp_path: Path
) -> None:
    options = {"batch_size": 3, "seed": 4}
    one = open_loader(numbered_shards, tiny_views, **options)  # type: ignore[arg-type]
    assert isinstance(one, Stateful)
    list(one)
    next(iter(one))
    checkpoint.save({"loader": one}, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    other = open_loader(numbered_shards, tiny_views, **options)  # type: ignore[arg-type]
    checkpoint.load({"loader": other}, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    assert other.state_dict() == one.state_dict()
    assert (other.epoch, other.state_dict()["batch"]) == (1, 1)
    assert _all_same(list(other), one)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files"
)


@needs_proc
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_closing_gives_everything_back(
    numbered_shards: Manifest, tiny_views: ViewSpec, engine: Any
) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    before = held()
    with open_loader(numbered_shards, tiny_views, engine=engine, num_workers=2) as loader:
        list(loader)
        left = iter(loader)
        next(left)
        assert held() > before
    left.close()
    assert held() == before


def test_a_closed_loader_says_so(loader: Loader) -> None:
    iteration = iter(loader)
    next(iteration)
    iteration.close()
    loader.close()
    loader.close()
    for use in (lambda: next(iter(loader)), lambda: loader.batches(0), lambda: loader.stream()):
        with pytest.raises(LoaderError, match="closed"):
            use()


def test_what_is_still_running_when_a_loader_closes_ends_with_an_error(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    loader = open_loader(numbered_shards, tiny_views, batch_size=1)
    running = [loader.batches(0), loader.stream(), iter(loader)]
    for batches in running:
        next(batches)
    loader.close()
    for batches in running:
        with pytest.raises(LoaderError, match="closed"):
            list(batches)


def test_a_loader_does_not_travel_to_another_process(loader: Loader) -> None:
    with pytest.raises(InputError, match="set num_workers=0"):
        pickle.dumps(loader)


def test_an_order_without_shuffling_is_refused(loader: Loader, tiny_views: ViewSpec) -> None:
    with pytest.raises(InputError, match="order is 'windowed', but shuffle is False"):
        open_loader(loader.manifest, tiny_views, shuffle=False, order="windowed")
