"""Renders one video: PyAV decodes, and compiled code makes views from the decoder's planes."""

import time
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame

from loaders.decode import decode_frames, frame_planes
from loaders.engines.fused.kernel import gamma_curves, render_views
from loaders.engines.fused.resampling import Filters, view_filters
from loaders.plan.draw import Plan
from shards.format.packet_index import Window

# Frames that are decoded before they are rendered: few, so that they stay in the cache and the
# decoder uses their memory again, but more than one, because each turn has a fixed cost.
_TURN = 16


def render_video(video: bytes | Window, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.engine.RenderVideo`."""
    needed = np.unique(plan.frames[b])
    place = np.searchsorted(needed, plan.frames[b])
    views = None
    augment_s = 0.0
    frames: list[VideoFrame] = []
    for k, frame in decode_frames(video, needed, int(plan.num_frames[b]), plan.sizes[b].tolist()):
        if k == 0:
            frames = []
        frames.append(frame)
        if len(frames) == _TURN or k == len(needed) - 1:
            began_s = time.perf_counter()
            views = views or _Views.of_video(plan, b, (frame.height, frame.width), out)
            views.render(frames, place - (k + 1 - len(frames)))
            augment_s += time.perf_counter() - began_s
            frames = []
    return augment_s


@dataclass(frozen=True, kw_only=True)
class _Views:
    """What is the same for every frame of row `b` of a plan, and where its views go."""

    plan: Plan
    b: int
    filters: Filters
    curves: np.ndarray
    curve_of: np.ndarray
    out: list[np.ndarray]

    @classmethod
    def of_video(cls, plan: Plan, b: int, size: tuple[int, int], out: list[np.ndarray]) -> "_Views":
        curves, curve_of = gamma_curves(plan.gamma[b], out[0].dtype)
        return cls(
            plan=plan,
            b=b,
            filters=view_filters(plan.size_px, plan.crop[b], plan.flip[b], size),
            curves=curves,
            curve_of=curve_of,
            out=out,
        )

    def render(self, frames: list[VideoFrame], place: np.ndarray) -> None:
        """Writes the frames of all views whose `place` (V, T) is an index into `frames`."""
        planes = frame_planes(frames)
        first = 0
        for group in self.out:
            views = slice(first, first + len(group))
            render_views(
                planes.addresses,
                planes.strides,
                planes.luma_range,
                planes.to_rgb,
                place[views],
                Filters(*(part[views] for part in self.filters)),
                self.plan.color[self.b, views],
                self.curves,
                self.curve_of[views],
                self.plan.erase[self.b, views],
                # Numba has no float16, so the kernel writes its bits.
                group.view(np.uint16) if group.dtype == np.float16 else group,
            )
            first = views.stop
