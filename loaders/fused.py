"""The CPU engine: PyAV decodes, and compiled code goes from the decoder's planes to the views."""

import time

import numpy as np
from av.video.frame import VideoFrame

from loaders.decode import decode_frames, frame_planes
from loaders.kernel import render_views
from loaders.plan import Plan

# Frames decoded before they are rendered: few, so that they stay in the cache and their memory goes
# round; not one, because each turn has a price of its own.
_TURN = 16


def render(data: bytes, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.Render`."""
    needed = np.unique(plan.frames[b])
    place = np.searchsorted(needed, plan.frames[b])
    augment_s = 0.0
    frames: list[VideoFrame] = []
    for k, frame in decode_frames(data, needed, int(plan.num_frames[b])):
        if k == 0:
            frames = []
        frames.append(frame)
        if len(frames) == _TURN or k == len(needed) - 1:
            began_s = time.perf_counter()
            _render_frames(frames, place - (k + 1 - len(frames)), plan, b, out)
            augment_s += time.perf_counter() - began_s
            frames = []
    return augment_s


def _render_frames(
    frames: list[VideoFrame], place: np.ndarray, plan: Plan, b: int, out: list[np.ndarray]
) -> None:
    """Writes the frames of all views whose `place` (V, T) is an index into `frames`."""
    planes = frame_planes(frames)
    first = 0
    for group in out:
        views = slice(first, first + len(group))
        render_views(
            planes.addresses,
            planes.strides,
            planes.size,
            planes.luma_range,
            planes.to_rgb,
            place[views],
            plan.crop[b, views],
            plan.flip[b, views],
            plan.color[b, views],
            plan.gamma[b, views],
            plan.erase[b, views],
            # Numba has no float16; the kernel writes its bits.
            group.view(np.uint16) if group.dtype == np.float16 else group,
        )
        first = views.stop
