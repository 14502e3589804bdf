"""Renders one video: compiled code makes views from the planes of decoded frames."""

import numpy as np

from loaders.decode import Footage, decoded_planes
from loaders.engines.fused.kernel import render_turns
from loaders.engines.fused.resampling import view_filters
from loaders.engines.fused.values import view_values
from loaders.plan.draw import Plan
from shards.decode.window_planes import window_planes
from shards.format.packets import Window


def render_video(video: Footage, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.engine.RenderVideo`."""
    needed, place = _needed_frames(plan.frames[b])
    height, width = plan.sizes[b].tolist()
    if isinstance(video, Window):
        turns = window_planes(video, needed)
    else:
        turns = decoded_planes(video, needed, int(plan.num_frames[b]), (height, width))
    return render_turns(
        turns,
        place,
        view_filters(plan.size_px, plan.crop[b], plan.flip[b], (height, width)),
        view_values(plan.color[b], plan.gamma[b], out[0].dtype, plan.normalization),
        plan.erase[b],
        out,
    )


def _needed_frames(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted, unique numbers in `shown` (V, T), and where each of `shown` is among them."""
    # NumPy is hardly faster for so few numbers, and it releases the interpreter five times.
    needed = sorted(set(shown.ravel().tolist()))
    place = {frame: k for k, frame in enumerate(needed)}
    places = [[place[frame] for frame in view] for view in shown.tolist()]
    return np.array(needed), np.array(places)
