"""The way of a sample through the files of the loader, and what it shows."""

import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from loaders import open_loader
from loaders.decode import decoded_planes
from shards.decode import window_planes as window_module
from shards.format.manifest import Manifest
from tests.recipes import RecipeShards
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
    assert len(set(entered)) == 26  # CONTRIBUTING.md says so
    assert returns == []


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_views_are_those_of_pyav_where_a_later_turn_fails(
    recipe_shards: RecipeShards, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """PyAV then begins the window again, and nothing of the first turns is left."""
    manifest = recipe_shards("h264")
    with open_loader(manifest, "pretrain", size_px=32, batch_size=5, in_process=True) as loader:
        expected = next(iter(loader))
    decode, calls = window_module.decode_turn, Counter[int]()

    def failed_later(*arguments: Any) -> int:
        next_packet: int = decode(*arguments)
        calls[threading.get_ident()] += 1
        if calls[threading.get_ident()] % 3 != failing % 3:
            return next_packet
        *_, places = arguments
        places[...] = 0  # whoever used it would end the process
        return -1

    monkeypatch.setattr(window_module, "decode_turn", failed_later)
    with open_loader(manifest, "pretrain", size_px=32, batch_size=5, in_process=True) as loader:
        found = next(iter(loader))
    assert found.keys == expected.keys
    for name, views in expected.views.items():
        assert torch.equal(found.views[name], views)
    assert calls.total() > 5


def test_all_frames_of_a_video_have_the_colours_of_the_first_one() -> None:
    def frames() -> Iterator[VideoFrame]:
        for number in range(20):
            frame = VideoFrame(16, 16, "yuv420p")
            frame.color_range = ColorRange.JPEG if number < 16 else ColorRange.MPEG
            yield frame

    turns = list(decoded_planes(frames(), np.arange(20), 20, (16, 16)))
    assert [k for k, _ in turns] == [0, 16]
    assert [planes.colors.range for _, planes in turns] == ["full"] * 2
