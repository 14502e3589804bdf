"""The pictures that DALI makes of decoded frames on a GPU, made on the CPU.

Source: `dali/operators/video/color_space.cu` of DALI. Every pixel gets its chroma from the four
samples around it, which lie in the centre of four pixels each, rounded to a byte. Then BT.601 makes
RGB of it, whatever the matrix of the video is, rounded and clipped to bytes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from av.video.frame import VideoFrame

from loaders.engines.dali import reading
from loaders.engines.dali.reading import SampleReader
from loaders.engines.dali.samples import Sample
from loaders.plan.draw import Plan
from loaders.yuv import frame_color
from shards.reader import ShardReader


def gpu_frame_to_rgb(frame: VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an 8-bit 4:2:0 frame with even sides."""
    luma, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8)
        .reshape(-1, plane.line_size)[: plane.height, : plane.width]
        .astype(np.float32)
        for plane in frame.planes
    )
    blue, red = (_bytes(_doubled(_doubled(plane, 0), 1)) - 128.0 for plane in (blue, red))
    black, white = map(float, frame_color(frame).luma_range)
    light = (luma - black) / (white - black)
    blue, red = (plane / (255 if black == 0 else 224) for plane in (blue, red))
    rgb = (light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue)
    return _bytes(255 * np.stack(rgb, axis=-1))


def _doubled(plane: np.ndarray, axis: int) -> np.ndarray:
    """Twice as many samples: each new one is 3/4 of the nearest old one, and 1/4 of the next."""
    n = plane.shape[axis]
    nearest = np.arange(2 * n) // 2
    following = np.clip(nearest + np.tile([-1, 1], n), 0, n - 1)
    return 0.75 * plane.take(nearest, axis) + 0.25 * plane.take(following, axis)


def _bytes(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)


@contextmanager
def colours_of_a_gpu() -> Iterator[None]:
    """Meanwhile DALI's graph on the CPU gets such pictures of videos that it does not decode."""
    load = SampleReader._load

    def load_as_on_a_gpu(samples: SampleReader, reader: ShardReader, plan: Plan, b: int) -> Sample:
        assert not samples._decodes
        is_bt709 = bool(samples._is_bt709[plan.rows[b]])
        return replace(load(samples, reader, plan, b), is_wrong_bt709=is_bt709)

    def pictures(frames: Iterable[VideoFrame]) -> np.ndarray:
        return np.stack([gpu_frame_to_rgb(frame) for frame in frames])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleReader, "_load", load_as_on_a_gpu)
        patch.setattr(reading, "rgb_pictures", pictures)
        yield
