"""What a pipeline gets: files of windows, and numbers that count from their first frames."""

import io

import av
import numpy as np
import pytest

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")

from loaders import open_loader
from loaders.engines.dali.engine import DaliEngine
from loaders.plan import stage_views
from shards.reader import ShardReader
from tests.loaders.engines.dali.conftest import NUM_VIDEOS, Shards


def test_numbers_are_those_of_the_windows_file(shards: Shards) -> None:
    spec = stage_views.pretrain(num_frames=4, size_px=16, num_slices=2)
    loader = open_loader(
        shards("vp9"), spec, engine="dali", device="cpu", batch_size=NUM_VIDEOS, num_workers=1
    )
    assert isinstance(loader.engine, DaliEngine)
    num_later = 0  # windows that do not begin with their video
    with loader, ShardReader(loader.manifest) as reader:
        for epoch in range(3):
            (plan,) = loader.plans(epoch)
            batch = loader.engine.read(reader, plan)
            inputs = batch.inputs(list(range(NUM_VIDEOS)))
            for b, row in enumerate(plan.rows.tolist()):
                whole, window = _pictures(reader.read(row)), _pictures(bytes(inputs["data"][b]))
                num_later += len(window) < len(whole)
                shown = window[inputs["frames"][b]][inputs["place"][b]]
                np.testing.assert_array_equal(shown, whole[plan.frames[b]])
    assert num_later > 0


def _pictures(data: bytes) -> np.ndarray:
    """(F, ...) uint8, every frame of a file."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
