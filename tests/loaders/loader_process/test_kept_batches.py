"""`max_kept_batches` bounds the memory that a loader and its process share."""

from itertools import islice
from typing import Any

import pytest
import torch

from loaders import ViewSpec, open_loader
from loaders.engines.memory import MB, view_bytes
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.paired import paired
from tests.processes import is_in_ring, ring_files

_BATCH_SIZE = 2


@pytest.mark.parametrize("max_kept", [1, 3, 5])
def test_it_bounds_the_buffers_that_exist(
    numbered_shards: Manifest, tiny_views: ViewSpec, max_kept: int
) -> None:
    """So many batches lie in the ring, the further ones beside it, and none of them changes."""
    inodes_before = set(ring_files())
    with _open(numbered_shards, tiny_views, max_kept_batches=max_kept) as loader:
        kept = list(islice(loader.stream(), max_kept + 4))
        in_ring = [is_in_ring(batch.views["long"].data_ptr()) for batch in kept]
        assert in_ring == [True] * max_kept + [False] * 4
        [ring_bytes] = [size for inode, size in ring_files().items() if inode not in inodes_before]
        expected = _open(numbered_shards, tiny_views, in_process=True).stream()
        for ours, theirs in paired(kept, islice(expected, len(kept))):
            assert torch.equal(ours.views["long"], theirs.views["long"])
    batch_bytes = _BATCH_SIZE * view_bytes(tiny_views, "float32")
    ring_mb = (2 + 1 + max_kept) * batch_bytes / MB  # two ahead, and the one that is collected
    assert ring_mb <= ring_bytes / MB < ring_mb + 0.1  # each group of views begins with a page


def test_the_predicted_memory_has_the_whole_ring(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    def predicted_mb(**options: Any) -> float:
        with _open(numbered_shards, tiny_views, **options) as loader:
            return loader.memory_mb()["cpu"]

    # The threads here have memory for one batch that is kept.
    one_kept_mb = predicted_mb(in_process=True)
    batch_mb = _BATCH_SIZE * view_bytes(tiny_views, "float32") / MB
    for max_kept in (1, 4):
        found_mb = predicted_mb(max_kept_batches=max_kept)
        assert found_mb == pytest.approx(one_kept_mb + (max_kept - 1) * batch_mb, abs=0.1)
    assert predicted_mb() == predicted_mb(max_kept_batches=2)


def test_each_iteration_has_a_ring_of_its_own(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    before = len(ring_files())
    with _open(numbered_shards, tiny_views) as loader:
        streams = [loader.stream() for _ in range(3)]
        for stream in streams:
            next(stream)
        assert len(ring_files()) == before + 3
        for stream in streams:
            stream.close()
        next(loader.stream())
        assert len(ring_files()) == before + 3  # one of them is used again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_kept_batches": 0}, "max_kept_batches is 0: give 1 or more"),
        ({"in_process": True}, "max_kept_batches is 3, but .* give in_process=False"),
        ({"in_process": None, "device": "cpu"}, "max_kept_batches is 3, but .* in_process=False"),
    ],
)
def test_where_it_means_nothing_it_is_refused(
    numbered_shards: Manifest, tiny_views: ViewSpec, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _open(numbered_shards, tiny_views, **{"max_kept_batches": 3, **options})


@pytest.mark.parametrize("name", ["max_kept_batches", "lookahead_mb"])
def test_dali_has_a_layout_instead(
    numbered_shards: Manifest, tiny_views: ViewSpec, name: str
) -> None:
    pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    with pytest.raises(InputError, match=f"{name} is not for the engine dali"):
        _open(numbered_shards, tiny_views, engine="dali", **{name: 300})


def _open(manifest: Manifest, views: ViewSpec, **options: Any) -> Any:
    defaults = {"in_process": False, "device": "cpu", "engine": "fused", "num_workers": 2}
    return open_loader(manifest, views, batch_size=_BATCH_SIZE, **{**defaults, **options})
