"""DALI's CPU operators on frames that PyAV decodes (DALI's own CPU decoder takes no H.264)."""

from functools import cache
from typing import Any

import numpy as np
import torch

from bench.peers import PeerRender
from loaders.decode import decoded_frames
from loaders.plan.draw import Plan
from loaders.yuv import frame_to_rgb


def load() -> PeerRender:
    """See `bench.peers`."""
    from nvidia.dali import pipeline_def

    graph = pipeline_def(num_threads=1, device_id=None, exec_dynamic=False)(_graph)

    @cache
    def pipeline(num_views: int, size_px: int) -> Any:
        built = graph(size_px, batch_size=num_views, prefetch_queue_depth=1)
        built.build()
        return built

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        inputs = _inputs(data, plan, b)
        pipe = pipeline(len(inputs["clip"]), plan.size_px)
        for name, value in inputs.items():
            pipe.feed_input(name, value)
        (output,) = pipe.run()
        views = []
        for view, gamma in enumerate(plan.gamma[b].tolist()):
            clip = torch.from_numpy(np.array(output.at(view))).clamp_(0, 1)
            views.append((clip**gamma if gamma != 1 else clip).movedim(-1, 0))
        return views

    return render


def _graph(size: int) -> Any:
    """One view is a sample: crop, resize, flip, colour, erase."""
    from nvidia.dali import fn, types

    clip = fn.external_source(name="clip", layout="FHWC")
    start, end = fn.external_source(name="start"), fn.external_source(name="end")
    clip = fn.resize(
        clip,
        size=[size, size],
        roi_start=start,
        roi_end=end,
        interp_type=types.INTERP_LINEAR,
        antialias=True,
    )
    clip = fn.flip(clip, horizontal=fn.external_source(name="flip"))
    clip = fn.coord_transform(
        clip,
        M=fn.external_source(name="matrix"),
        T=fn.external_source(name="offset"),
        dtype=types.FLOAT,
    )
    return fn.erase(
        clip,
        anchor=fn.external_source(name="anchor"),
        shape=fn.external_source(name="shape"),
        axis_names="HW",
        fill_value=0,
    )


def _inputs(data: bytes, plan: Plan, b: int) -> dict[str, list[np.ndarray]]:
    needed, place = np.unique(plan.frames[b], return_inverse=True)
    place = place.reshape(plan.frames[b].shape)
    frames = decoded_frames(data, needed, int(plan.num_frames[b]), plan.sizes[b].tolist())
    rgb = np.stack([frame_to_rgb(frame) for frame in frames])
    crop, color = plan.crop[b].astype(np.float32), plan.color[b]
    rectangle = plan.erase[b].reshape(len(place), -1, 4).astype(np.float32)
    return {
        "clip": [rgb[indices] for indices in place],
        "start": list(crop[:, :2]),
        "end": list(crop[:, :2] + crop[:, 2:]),
        "flip": list(plan.flip[b].astype(np.int32)),
        "matrix": list(np.ascontiguousarray(color[..., :3]) / 255),
        "offset": list(np.ascontiguousarray(color[..., 3])),
        "anchor": [row[:, :2].ravel() for row in rectangle],
        "shape": [row[:, 2:].ravel() for row in rectangle],
    }
