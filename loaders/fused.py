"""The CPU engine: PyAV to planes, then one compiled pass per view."""

import numpy as np

from loaders.decode import Planes, decode_planes
from loaders.kernel import render_view, resample_weights
from loaders.plan import Plan


def render_video(data: bytes, plan: Plan, b: int, out: list[np.ndarray]) -> None:
    """Writes all views of the plan's row `b`.

    Args:
        data: The video's encoded bytes.
        plan: The batch's plan.
        b: Row of the plan.
        out: One (T, S, S, 3) array a view, uint8 or float32 in [0, 1], written in place.

    Raises:
        DecodeError: The video does not yield the planned frames.
    """
    needed, place = np.unique(plan.frames[b], return_inverse=True)
    planes = decode_planes(data, needed, int(plan.num_frames[b]))
    place = place.reshape(plan.frames[b].shape)
    for view in range(len(out)):
        _render(planes, place[view], plan, b, view, out[view])


def _render(
    planes: Planes, frames: np.ndarray, plan: Plan, b: int, view: int, out: np.ndarray
) -> None:
    top, left, height, width = (int(value) for value in plan.crop[b, view])
    flip = bool(plan.flip[b, view])
    _, plane_height, plane_width = planes.luma.shape
    _, _, chroma_height, chroma_width = planes.chroma.shape
    size = plan.size_px
    # Chroma samples sit on the left luma sample of their pair (MPEG-2 / H.264 default siting), a
    # quarter of a chroma sample off the pair's centre; vertically they are centred.
    render_view(
        planes.luma,
        planes.chroma,
        frames,
        resample_weights(size, top, height, plane_height),
        resample_weights(size, left, width, plane_width, flip=flip),
        resample_weights(size, top / 2, height / 2, chroma_height),
        resample_weights(size, left / 2 + 0.25, width / 2, chroma_width, flip=flip),
        planes.to_rgb.astype(np.float32),
        plan.color[b, view],
        np.float32(plan.gamma[b, view]),
        plan.erase[b, view],
        np.float32(255 if out.dtype == np.uint8 else 1),
        out,
    )
