"""The threaded engine has work for all its threads, within its memory, and keeps the order."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import ViewSpec, open_loader
from loaders.engines.fused import render_video
from loaders.engines.threads import ThreadedEngine
from loaders.plan.stage_views import pretrain
from shards.format.manifest import Manifest
from tests.loaders.meeting import meeting
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
    shape = (batch_size * 10 * 16, 3, size_px, size_px)  # 2 long clips and 8 short ones a video
    num_bytes = torch.empty(shape, dtype=getattr(torch, dtype), device="meta").nbytes
    engine = ThreadedEngine(
        render_video.render_video,
        spec,
        dtype=dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        lookahead_mb=lookahead_mb,
    )
    engine.close()
    ahead = engine.num_batches_ahead
    assert ahead >= 2
    assert ahead == 2 or ahead * num_bytes <= lookahead_mb * 2**20
    is_enough = ahead * batch_size >= 2 * num_workers
    assert is_enough or (ahead + 1) * num_bytes > lookahead_mb * 2**20
    assert ahead == 2 or (ahead - 1) * batch_size < 2 * num_workers


def test_all_threads_work_at_once_in_small_batches(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=1) as loader:
        expected = list(islice(loader.stream(), 15))
    monkeypatch.setattr(render_video, "render_video", meeting(render_video.render_video, 12))
    with open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=12) as loader:
        found = list(islice(loader.stream(), 15))
    for one, other in paired(expected, found):
        assert one.keys == other.keys
        assert all(torch.equal(one.views[name], other.views[name]) for name in one.views)
