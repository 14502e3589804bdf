"""Renders one video: PyAV decodes, and compiled code makes views from the decoder's planes."""

import time

import numpy as np
from av.video.frame import VideoFrame

from loaders.decode import Footage, decode_frames, frame_planes
from loaders.engines.fused.kernel import render_views
from loaders.engines.fused.resampling import Filters, view_filters
from loaders.engines.fused.values import view_values
from loaders.plan.draw import Plan


def render_video(video: Footage, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.engine.RenderVideo`."""
    needed = np.unique(plan.frames[b])
    views = _Views(plan, b, needed, out)
    size = plan.sizes[b].tolist()
    decode_frames(video, needed, int(plan.num_frames[b]), size, views.render)
    return views.augment_s


class _Views:
    """The views of row `b` of a plan, which are written to `out` while frames are decoded.

    Attributes:
        augment_s: Seconds that it took.
    """

    def __init__(self, plan: Plan, b: int, needed: np.ndarray, out: list[np.ndarray]) -> None:
        self._plan, self._b, self._out = plan, b, out
        self._place = np.searchsorted(needed, plan.frames[b])  # (V, T) indices into `needed`
        height, width = plan.sizes[b].tolist()
        self._filters = view_filters(plan.size_px, plan.crop[b], plan.flip[b], (height, width))
        self._values = view_values(plan.color[b], plan.gamma[b], out[0].dtype, plan.normalization)
        self.augment_s = 0.0

    def render(self, k: int, frames: list[VideoFrame]) -> None:
        """Writes those frames of all views that show `frames`; the first is `needed[k]`."""
        began_s = time.perf_counter()
        plan, b, first = self._plan, self._b, 0
        planes, place, values = frame_planes(frames), self._place - k, self._values
        for group in self._out:
            views = slice(first, first + len(group))
            render_views(
                planes.addresses,
                planes.strides,
                planes.luma_range,
                planes.to_rgb,
                place[views],
                Filters(*(part[views] for part in self._filters)),
                values.maps[views],
                values.limits[views],
                values.curves,
                values.curve_of[views],
                plan.erase[b, views],
                values.black,
                # Numba has no float16, so the kernel writes its bits.
                group.view(np.uint16) if group.dtype == np.float16 else group,
            )
            first = views.stop
        self.augment_s += time.perf_counter() - began_s
