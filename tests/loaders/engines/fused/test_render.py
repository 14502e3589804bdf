"""The way of a sample through the files of the loader, and the colours of a video."""

import dis
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from loaders import open_loader
from loaders.decode import decoded_planes
from loaders.engines.fused.render import render_video
from shards.format.manifest import Manifest
from shards.reader import ShardReader

ROOT = Path(__file__).resolve().parents[4]
YIELD_VALUE = dis.opmap["YIELD_VALUE"]


class Walk:
    """Counts how often a file is entered again after no function of it was active."""

    def __init__(self) -> None:
        self._active: Counter[str] = Counter()
        self._suspended: set[FrameType] = set()
        self.returns: list[tuple[str, str]] = []

    @property
    def files(self) -> set[str]:
        """The files that were entered."""
        return set(self._active)

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if not name.startswith((str(ROOT / "loaders"), str(ROOT / "shards"))):
            return
        if event == "call" and frame not in self._suspended:
            if name in self._active and not self._active[name]:
                self.returns.append((name, frame.f_code.co_name))
            self._active[name] += 1
        elif event == "return" and not self._yields(frame):
            self._suspended.discard(frame)
            self._active[name] -= 1

    def _yields(self, frame: FrameType) -> bool:
        """Whether a generator hands over a value: it stays active until it ends."""
        if frame.f_code.co_code[frame.f_lasti] != YIELD_VALUE:
            return False
        self._suspended.add(frame)
        return True


@pytest.mark.parametrize("views", ["student", "pretrain", "eval"])
def test_the_way_of_a_sample_returns_to_no_file(textured_shards: Manifest, views: str) -> None:
    with (
        open_loader(textured_shards, views, size_px=32, batch_size=1) as loader,
        ShardReader(textured_shards) as reader,
    ):
        plan = next(iter(loader.plans(0)))
        groups = loader.planner.spec.groups
        shape = (loader.planner.spec.num_frames, 32, 32, 3)
        out = [np.empty((len(group.offsets), *shape), np.float32) for group in groups]
        row, shown = int(plan.rows[0]), plan.frames[0]
        for walk in (None, Walk()):  # the first time opens files and a decoder
            sys.setprofile(walk)
            try:
                video = reader.read_frames(row, int(shown.min()), int(shown.max()))
                render_video(video, plan, 0, out)
            finally:
                sys.setprofile(None)
    assert walk is not None
    assert len(walk.files) >= 6
    assert walk.returns == []


def test_all_frames_of_a_video_have_the_colours_of_the_first_one() -> None:
    def frames() -> Iterator[VideoFrame]:
        for number in range(20):
            frame = VideoFrame(16, 16, "yuv420p")
            frame.color_range = ColorRange.JPEG if number < 16 else ColorRange.MPEG
            yield frame

    turns = list(decoded_planes(frames(), np.arange(20), 20, (16, 16)))
    assert [k for k, _ in turns] == [0, 16]
    assert [planes.luma_range for _, planes in turns] == [(0, 255)] * 2
