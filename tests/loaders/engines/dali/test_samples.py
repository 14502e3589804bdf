"""What a pipeline gets: files of windows, and numbers that count from their first frames."""

import io
from dataclasses import replace

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


@pytest.mark.parametrize("codec", ["vp9", "mjpeg"])
def test_a_late_window_is_no_more_work_than_an_early_one(shards: Shards, codec: str) -> None:
    """DALI decodes a file from its first frame, so its work is what the file holds."""
    manifest, num_frames = shards(codec), 16
    row = int(np.argmax(manifest.num_frames))
    spec = stage_views.finetune(num_frames=num_frames, stride=1, size_px=16)
    loader = open_loader(
        manifest, spec, engine="dali", device="cpu", batch_size=1, shuffle=False, num_workers=1
    )
    assert isinstance(loader.engine, DaliEngine)
    boxes = set()
    with loader, ShardReader(manifest) as reader:
        plan = next(plan for plan in loader.plans(0) if plan.rows == [row])
        for first in (0, 32, 64):  # each begins with a group of pictures
            frames = np.arange(first, first + num_frames).reshape(plan.frames.shape)
            inputs = loader.engine.read(reader, replace(plan, frames=frames)).inputs([0])
            (file,) = (bytes(data) for data in inputs["data"])
            window = reader.read_window(row, first, first + num_frames - 1)
            assert len(_pictures(file)) == num_frames
            np.testing.assert_array_equal(inputs["frames"][0], range(num_frames))
            assert file.endswith(window.data)
            assert len(file) < len(reader.read(row)) / 3
            boxes.add(len(file) - len(window.data))
    assert len(boxes) == 1


def _pictures(data: bytes) -> np.ndarray:
    """(F, ...) uint8, every frame of a file."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
