"""Renders one video: PyAV decodes, and compiled code makes views from the decoder's planes."""

import numpy as np

from loaders.decode import Footage, decoded_planes
from loaders.engines.fused.kernel import render_turns
from loaders.engines.fused.resampling import view_filters
from loaders.engines.fused.values import view_values
from loaders.plan.draw import Plan


def render_video(video: Footage, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.engine.RenderVideo`."""
    needed = np.unique(plan.frames[b])
    height, width = plan.sizes[b].tolist()
    return render_turns(
        decoded_planes(video, needed, int(plan.num_frames[b]), (height, width)),
        np.searchsorted(needed, plan.frames[b]),
        view_filters(plan.size_px, plan.crop[b], plan.flip[b], (height, width)),
        view_values(plan.color[b], plan.gamma[b], out[0].dtype, plan.normalization),
        plan.erase[b],
        out,
    )
