"""The threaded engine has work for all its threads, within its memory, and keeps the order."""

from collections.abc import Callable
from itertools import islice
from threading import Barrier, Lock
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import ViewSpec, open_loader
from loaders.engines.fused import render
from loaders.engines.threads import num_batches_ahead
from loaders.plan.stage_views import pretrain
from shards.format.manifest import Manifest
from tests.paired import paired


@given(
    size_px=st.sampled_from([16, 112, 224]),
    dtype=st.sampled_from(["uint8", "float16", "float32"]),
    batch_size=st.integers(1, 64),
    num_workers=st.integers(1, 256),
    lookahead_mb=st.sampled_from([1, 100, 2048]),
)
def test_each_thread_has_two_videos_unless_memory_is_short(
    size_px: int, dtype: str, batch_size: int, num_workers: int, lookahead_mb: int
) -> None:
    spec = pretrain(size_px=size_px)
    ahead = num_batches_ahead(spec, dtype, batch_size, num_workers, lookahead_mb)
    shape = (batch_size * 10 * 16, 3, size_px, size_px)  # 2 long clips and 8 short ones a video
    num_bytes = torch.empty(shape, dtype=getattr(torch, dtype), device="meta").nbytes
    assert ahead >= 2
    assert ahead == 2 or ahead * num_bytes <= lookahead_mb * 2**20
    is_enough = ahead * batch_size >= 2 * num_workers
    assert is_enough or (ahead + 1) * num_bytes > lookahead_mb * 2**20
    assert ahead == 2 or (ahead - 1) * batch_size < 2 * num_workers


def test_all_threads_work_at_once_in_small_batches(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve threads wait for each other, so twelve videos must be in work at a time."""
    num_batches, num_threads = 15, 12
    together, lock, started = Barrier(num_threads, timeout=60), Lock(), []

    def meeting(rendered: Callable[..., float], *inputs: Any) -> float:
        with lock:
            started.append(inputs)
            is_early = len(started) <= num_threads
        if is_early:
            together.wait()
        return rendered(*inputs)

    with open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=1) as loader:
        expected = list(islice(loader.stream(), num_batches))
    original = render.render_video
    monkeypatch.setattr(render, "render_video", lambda *inputs: meeting(original, *inputs))
    with open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=num_threads) as loader:
        found = list(islice(loader.stream(), num_batches))
    for one, other in paired(expected, found):
        assert one.keys == other.keys
        assert all(torch.equal(one.views[name], other.views[name]) for name in one.views)
