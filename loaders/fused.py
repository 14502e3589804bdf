"""The CPU engine: PyAV decodes, and compiled code goes from the decoder's planes to the views."""

import numpy as np

from loaders.decode import Planes, decode_frames, frame_planes
from loaders.kernel import render_views
from loaders.plan import Plan


def decode(data: bytes, plan: Plan, b: int) -> Planes:
    """The planes of the frames that the plan's row `b` needs, each once, in order."""
    needed = np.unique(plan.frames[b])
    return frame_planes(decode_frames(data, needed, int(plan.num_frames[b])))


def augment(planes: Planes, plan: Plan, b: int, out: list[np.ndarray]) -> None:
    """Writes the views; see `loaders.engines.Engine`."""
    place = np.searchsorted(np.unique(plan.frames[b]), plan.frames[b])
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
