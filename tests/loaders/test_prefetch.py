"""The next shards are fetched in the background: in order, bounded, once; batches stay the same."""

import gc
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import Batch, Loader, LoaderError, Skip, ViewSpec, open_loader
from loaders.plan.order import ShardUse
from loaders.prefetch import SHARDS_AHEAD, ShardsAhead
from shards.files.remote_store import RemoteStore
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.make_videos import make_video

NUM_VIDEOS = 30


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Each video in a shard of its own: three windows of eight shards, and one of six."""
    root = tmp_path_factory.mktemp("prefetch")
    for seed in range(NUM_VIDEOS):
        make_video(root / "videos" / "a" / f"{seed}.mp4", num_frames=8, seed=seed)
    ingest(from_folder(root / "videos"), root / "shards", shard_bytes=1, workers=1)
    manifest = read_manifest(root / "shards")
    assert len(manifest.shard_names) == NUM_VIDEOS
    return manifest


@pytest.fixture
def remote(local: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The same behind a URL, and an empty cache."""
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/shards"
    fsspec.filesystem("memory").put(f"{local.root}/", f"{url}/", recursive=True)
    return read_manifest(url)


@pytest.fixture
def fetched(remote: Manifest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards that have been requested, in order."""
    requests: list[int] = []
    get_file = RemoteStore.get_file

    def noted(store: RemoteStore, name: str, target: Path, max_bytes: int) -> None:
        if name in remote.shard_names:
            requests.append(remote.shard_names.index(name))
        get_file(store, name, target, max_bytes)

    monkeypatch.setattr(RemoteStore, "get_file", noted)
    return requests


@pytest.fixture
def limit(remote: Manifest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The most bytes that copies may take: those of five shards."""
    num_bytes = int(np.sort(remote.shard_bytes)[-5:].sum())
    monkeypatch.setenv("TIMEBALANCE_CACHE_GB", str(num_bytes / 1e9))
    return num_bytes


@pytest.fixture
def opened(remote: Manifest, tiny_views: ViewSpec) -> Callable[..., Loader]:
    def open_it(manifest: Manifest = remote, **options: Any) -> Loader:
        chosen = {"order": "windowed", "batch_size": 1, "num_workers": 2, **options}
        return open_loader(manifest, tiny_views, **chosen)

    return open_it


def _shards_in_order(loader: Loader, start: int = 0) -> list[int]:
    """One video a shard, so each batch of one shows another shard."""
    return [int(loader.manifest.shard_index[plan.rows[0]]) for plan in loader.plans(0, start)]


def _until(holds: Callable[[], bool]) -> None:
    """Waits for something in the background; pytest ends a test that waits for ever."""
    while not holds():
        time.sleep(0.01)


def _same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return len(ours) == len(theirs) > 0 and all(
        one.keys == other.keys
        and all(torch.equal(one.views[name], other.views[name]) for name in other.views)
        for one, other in zip(ours, theirs, strict=True)
    )


@st.composite
def _epochs(draw: st.DrawFn) -> tuple[list[ShardUse], np.ndarray, int]:
    """Uses by first step, sizes of the shards, and a number of steps."""
    num_steps = draw(st.integers(1, 30))
    steps = st.integers(0, num_steps - 1)
    spans = draw(st.lists(st.tuples(steps, steps), max_size=25))
    firsts = sorted((min(span), max(span)) for span in spans)
    uses = [ShardUse(shard, *span) for shard, span in enumerate(firsts)]
    sizes = draw(st.lists(st.integers(1, 9), min_size=len(uses), max_size=len(uses)))
    return uses, np.array(sizes, dtype=np.int64), num_steps


@given(epoch=_epochs(), limit=st.integers(0, 60), lag=st.integers(0, 4), data=st.data())
def test_shards_are_taken_in_order_and_within_the_limit(
    epoch: tuple[list[ShardUse], np.ndarray, int], limit: int, lag: int, data: st.DataObject
) -> None:
    uses, sizes, num_steps = epoch
    ahead = ShardsAhead(iter(uses), sizes, limit_bytes=limit, num_batches_ahead=lag)
    taken: list[int] = []
    for step in range(num_steps):
        for _ in range(data.draw(st.integers(1, 4))):
            shard = ahead.take(step)
            needed = {use.shard for use in uses if use.first <= step <= use.last + lag}
            assert needed <= ahead.held.keys()
            if shard is None:
                break
            taken.append(shard)
            later = ahead.held.keys() - needed
            assert shard in later
            assert uses[shard].first > step
            assert len(later) <= SHARDS_AHEAD
            assert sum(sizes[one] for one in ahead.held) <= limit
    assert taken == sorted(set(taken))


def test_so_many_small_shards_are_taken_and_no_more() -> None:
    uses = [ShardUse(shard, 10, 10) for shard in range(20)]
    sizes = np.ones(20, dtype=np.int64)
    ahead = ShardsAhead(iter(uses), sizes, limit_bytes=1000, num_batches_ahead=0)
    assert [ahead.take(0) for _ in range(SHARDS_AHEAD + 1)] == [*range(SHARDS_AHEAD), None]


def test_the_next_window_arrives_while_this_one_is_read(
    opened: Callable[..., Loader], fetched: list[int]
) -> None:
    with opened() as loader:
        order = _shards_in_order(loader)
        for num_read, _ in enumerate(loader, start=1):
            # While a batch is consumed, the plans of some batches after it have been made.
            expected = sorted(order[: num_read + loader.engine.num_batches_ahead + SHARDS_AHEAD])
            _until(lambda: sorted(fetched) == expected)  # noqa: B023
    assert sorted(fetched) == sorted(order)


def test_batches_are_those_of_the_local_shards(
    opened: Callable[..., Loader], local: Manifest, remote: Manifest, fetched: list[int]
) -> None:
    options = {"batch_size": 3, "seed": 5}
    num_batches = 2 * NUM_VIDEOS // 3 + 2
    with opened(local, **options) as one, opened(remote, **options) as other:
        streams = [list(islice(loader.stream(), num_batches)) for loader in (one, other)]
        assert _same(*streams)
        assert len(fetched) == NUM_VIDEOS  # the second epoch finds its copies
        assert _same(list(one), list(other))


def test_an_epoch_that_goes_on_in_the_middle_fetches_only_what_is_left(
    opened: Callable[..., Loader], fetched: list[int]
) -> None:
    with opened(batch_size=2, rank=1, world_size=2) as loader:
        rows = [plan.rows for plan in loader.plans(0, 5)]
        assert len(list(loader.batches(0, 5))) == len(rows) == len(loader) - 5
        expected = loader.manifest.shard_index[[row for row in np.concatenate(rows) if row >= 0]]
        uses = [use.shard for use in loader.planner.uses_of_epoch(0, 5)]
    assert sorted(fetched) == sorted(expected.tolist()) == sorted(uses)


def test_each_shard_is_fetched_once_an_epoch_within_the_limit(
    opened: Callable[..., Loader], remote: Manifest, fetched: list[int], limit: int
) -> None:
    """There is room for the shard being read, two whose reads may not be done, and two more."""
    with opened(num_workers=1) as loader:
        assert loader.engine.num_batches_ahead == 2
        for _ in range(2):
            fetched.clear()
            before = {path.name for path in remote.root.glob("*.tar")}
            for _ in loader:
                assert _bytes_of_copies(remote) <= limit
            assert len(fetched) == len(set(fetched)) >= NUM_VIDEOS - len(before)


@pytest.mark.usefixtures("limit")
def test_a_fetch_that_is_late_does_not_make_room_with_what_is_needed_now(
    opened: Callable[..., Loader], fetched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knew of the shards in use is old when its turn comes."""
    fetch, num_read = ShardReader.fetch, 0
    with opened(num_workers=1) as loader:
        order = _shards_in_order(loader)

        def late(reader: ShardReader, shard: int, is_needed: Callable[[], bool]) -> None:
            _until(lambda: num_read > min(order.index(shard) + 5, NUM_VIDEOS - 2))
            fetch(reader, shard, is_needed)

        monkeypatch.setattr(ShardReader, "fetch", late)
        for _ in loader:
            num_read += 1
    assert sorted(fetched) == sorted(order)


def _bytes_of_copies(remote: Manifest) -> int:
    total = 0
    for path in remote.root.glob("*.tar"):
        with suppress(FileNotFoundError):  # removed just now
            total += path.stat().st_size
    return total


def test_an_error_shows_at_the_read_that_needs_the_shard(
    opened: Callable[..., Loader], remote: Manifest, fetched: list[int]
) -> None:
    with opened() as loader:
        order = _shards_in_order(loader)
    bad = order[15]
    name = remote.shard_names[bad]
    files, path = fsspec.core.url_to_fs(f"{remote.url}/{name}")
    files.pipe_file(path, bytes(int(remote.shard_bytes[bad])))
    with opened() as loader:
        batches = iter(loader)
        served = list(islice(batches, 15))
        assert len(served) == 15
        with pytest.raises(LoaderError, match=f"{name}: not the bytes that were written"):
            next(batches)
    assert fetched.count(bad) == 1  # the read asks for nothing that the prefetch found to be bad
    with opened(on_error=Skip(max_bad_share=0.1)) as loader:
        assert sum(int(batch.valid.sum()) for batch in loader) == NUM_VIDEOS - 1
        assert list(loader.bad) == [remote.keys[int(remote.shard_starts[bad])]]


def test_an_error_of_the_program_is_not_silent(
    opened: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("shards.reader.ShardReader.fetch", fails)
    with opened() as loader, pytest.raises(ZeroDivisionError, match="a bug"):
        for _ in loader.stream():
            pass


def _prefetching_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("prefetch")]


def test_closing_gives_the_threads_back(opened: Callable[..., Loader]) -> None:
    with opened() as loader:
        left, abandoned = loader.stream(), loader.batches(0)
        next(left)
        next(abandoned)
        assert len(_prefetching_threads()) == 2
        abandoned.close()
    assert not _prefetching_threads()
    with pytest.raises(LoaderError, match="closed"):
        list(left)


def test_a_loader_that_is_dropped_leaves_no_threads(opened: Callable[..., Loader]) -> None:
    loader = opened()
    batches = loader.stream()
    next(batches)
    threads = _prefetching_threads()
    assert len(threads) == 2
    del loader, batches
    gc.collect()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.mark.parametrize("options", [{"order": "global"}, {"cache": False}])
def test_nothing_is_fetched_ahead_where_that_is_of_no_use(
    opened: Callable[..., Loader], fetched: list[int], options: dict[str, Any]
) -> None:
    with opened(**options) as loader:
        order = _shards_in_order(loader)
        next(iter(loader))
        assert not _prefetching_threads()
    assert set(fetched) <= set(order[: 1 + loader.engine.num_batches_ahead])


def test_local_shards_have_no_prefetch(opened: Callable[..., Loader], local: Manifest) -> None:
    with opened(local) as loader:
        next(iter(loader))
        assert not _prefetching_threads()


@pytest.mark.timeout(60)
def test_a_loader_process_fetches_ahead_too(
    local: Manifest, tiny_views: ViewSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    manifest = read_manifest(f"local:///{local.root}")
    options: dict[str, Any] = {"order": "windowed", "batch_size": 1, "num_workers": 1}
    with open_loader(manifest, tiny_views, in_process=False, **options) as loader:
        batches = iter(loader)  # an iteration that is dropped ends, and its fetching with it
        next(batches)
        # Each batch is of another shard, and fewer than eight batches are in work.
        _until(lambda: len(list(manifest.root.glob("*.tar"))) > 10)
    fetched = {path.name for path in manifest.root.glob("*.tar")}
    assert 10 < len(fetched) < NUM_VIDEOS
    assert fetched < set(manifest.shard_names)
