"""The CPU engine: PyAV decodes, and compiled code goes from the decoder's planes to the views."""

import numpy as np

from loaders.decode import decode_frames, frame_planes
from loaders.kernel import render_views
from loaders.plan import Plan


def render_video(data: bytes, plan: Plan, b: int, out: list[np.ndarray]) -> None:
    """Writes all views of the plan's row `b`.

    Args:
        data: The video's encoded bytes.
        plan: The batch's plan.
        b: Row of the plan.
        out: One (V, T, S, S, 3) array a group of views, written in place: uint8, or float32 or
            float16 in [0, 1].

    Raises:
        DecodeError: The video does not yield the planned frames.
    """
    needed, place = np.unique(plan.frames[b], return_inverse=True)
    place = place.reshape(plan.frames[b].shape)
    planes = frame_planes(decode_frames(data, needed, int(plan.num_frames[b])))
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
