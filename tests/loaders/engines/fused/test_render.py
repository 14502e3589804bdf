"""The way of a sample through the files of the loader, and the colours of a video."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from loaders import open_loader
from loaders.decode import decoded_planes
from shards.format.manifest import Manifest
from tests.walk import walking


@pytest.mark.parametrize("views", ["student", "pretrain", "eval"])
def test_the_way_of_a_sample_returns_to_no_file(textured_shards: Manifest, views: str) -> None:
    open_one = partial(
        open_loader,
        textured_shards,
        views,
        size_px=32,
        batch_size=1,
        num_workers=1,
        in_process=True,
    )
    with open_one() as loader:
        next(iter(loader))  # compiles, which takes minutes while each call is noted
    with walking() as walk, open_one() as loader:
        next(iter(loader))  # opens files and a decoder
        loader.load_state_dict({**loader.state_dict(), "batch": len(loader) - 1})
        last_of_epoch = iter(loader)
        walk.begin()
        next(last_of_epoch)
        entered, returns = list(walk.entered), walk.returns
    assert {"loaders/engines/fused/kernel.py", "loaders/batch.py"} < set(entered)
    assert returns == []


def test_all_frames_of_a_video_have_the_colours_of_the_first_one() -> None:
    def frames() -> Iterator[VideoFrame]:
        for number in range(20):
            frame = VideoFrame(16, 16, "yuv420p")
            frame.color_range = ColorRange.JPEG if number < 16 else ColorRange.MPEG
            yield frame

    turns = list(decoded_planes(frames(), np.arange(20), 20, (16, 16)))
    assert [k for k, _ in turns] == [0, 16]
    assert [planes.luma_range for _, planes in turns] == [(0, 255)] * 2
