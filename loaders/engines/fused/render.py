"""Renders one video: compiled code makes views from the planes of decoded frames."""

import numba
import numpy as np

from loaders.decode import Footage, decoded_planes
from loaders.engines.fused.kernel import render_turns
from loaders.engines.fused.resampling import view_filters
from loaders.engines.fused.values import view_values
from loaders.engines.fused.window_planes import window_planes
from loaders.plan.draw import Plan
from shards.format.packet_index import Window


def render_video(video: Footage, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.engine.RenderVideo`."""
    needed, place = _needed_frames(plan.frames[b])
    height, width = plan.sizes[b].tolist()
    num_frames = int(plan.num_frames[b])
    if isinstance(video, Window):
        turns = window_planes(video, needed, num_frames)
    else:
        turns = decoded_planes(video, needed, num_frames, (height, width))
    return render_turns(
        turns,
        place,
        view_filters(plan.size_px, plan.crop[b], plan.flip[b], (height, width)),
        view_values(plan.color[b], plan.gamma[b], out[0].dtype, plan.normalization),
        plan.erase[b],
        out,
    )


# NumPy's functions release the interpreter five times for this. It takes microseconds, so compiled
# code keeps the interpreter.
@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _needed_frames(shown):  # type: ignore[no-untyped-def]
    """The sorted, unique numbers in `shown` (V, T), and where each of `shown` is among them."""
    needed = np.unique(shown)
    return needed, np.searchsorted(needed, shown)
