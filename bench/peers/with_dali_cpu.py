"""DALI's CPU operators on frames that PyAV decodes (DALI's own CPU decoder takes no H.264)."""

from typing import Any

import numpy as np
import torch

from bench.peers import Render
from loaders.decode import decode_frames
from loaders.engines.reference import frame_to_rgb
from loaders.plan.draw import Plan


def load() -> Render:
    """See `bench.peers`."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(num_threads=1, device_id=None, exec_dynamic=False)
    def graph(size: int) -> Any:
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

    pipes: dict[tuple[int, int], Any] = {}

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        place = place.reshape(plan.frames[b].shape)
        frames = dict(decode_frames(data, needed, int(plan.num_frames[b])))
        rgb = np.stack([frame_to_rgb(frames[k]) for k in range(len(needed))])
        num_views = len(place)
        key = (num_views, plan.size_px)
        if key not in pipes:
            pipes[key] = graph(plan.size_px, batch_size=num_views, prefetch_queue_depth=1)
            pipes[key].build()
        pipe = pipes[key]
        crop = plan.crop[b].astype(np.float32)
        color = plan.color[b]
        rectangle = plan.erase[b].reshape(num_views, -1, 4).astype(np.float32)
        inputs = {
            "clip": [rgb[indices] for indices in place],
            "start": list(crop[:, :2]),
            "end": list(crop[:, :2] + crop[:, 2:]),
            "flip": list(plan.flip[b].astype(np.int32)),
            "matrix": list(np.ascontiguousarray(color[..., :3]) / 255),
            "offset": list(np.ascontiguousarray(color[..., 3])),
            "anchor": [row[:, :2].ravel() for row in rectangle],
            "shape": [row[:, 2:].ravel() for row in rectangle],
        }
        for name, value in inputs.items():
            pipe.feed_input(name, value)
        (output,) = pipe.run()
        views = []
        for view in range(num_views):
            clip = torch.from_numpy(np.array(output.at(view))).clamp_(0, 1)
            if plan.gamma[b, view] != 1:
                clip = clip ** float(plan.gamma[b, view])
            views.append(clip.movedim(-1, 0))
        return views

    return render
