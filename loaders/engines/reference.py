"""The oracle: PyAV to RGB, then torchvision and plain torch, one operation per line. Slow.

There are two oracles, because chroma samples have two places. FFmpeg puts them on the left luma
sample of their pair, as MPEG-2 and H.264 say. DALI on a GPU puts them in the centre of their four
pixels.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from av.video.frame import VideoFrame
from torchvision.transforms.v2 import functional

from loaders.decode import Footage, decoded_frames
from loaders.engines.threads import ThreadedEngine
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from loaders.yuv import frame_color, frame_to_rgb


def render_video(video: Footage, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.engine.RenderVideo`."""
    return _render(video, plan, b, out, frame_to_rgb)


def render_centred(video: Footage, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """Like `render_video`, with chroma samples where DALI puts them on a GPU."""
    return _render(video, plan, b, out, centred_frame_to_rgb)


def centred_engine(spec: ViewSpec, *, batch_size: int, num_workers: int) -> ThreadedEngine:
    """An engine of `render_centred`, float32: the oracle for DALI on a GPU."""
    return ThreadedEngine(
        render_centred, spec, dtype="float32", batch_size=batch_size, num_workers=num_workers
    )


def _render(
    video: Footage,
    plan: Plan,
    b: int,
    out: list[np.ndarray],
    to_rgb: Callable[[VideoFrame], np.ndarray],
) -> float:
    needed = np.unique(plan.frames[b])
    place = np.searchsorted(needed, plan.frames[b])
    frames = decoded_frames(video, needed, int(plan.num_frames[b]), plan.sizes[b].tolist())
    rgb = np.stack([to_rgb(frame) for frame in frames])
    pictures = torch.from_numpy(rgb).movedim(-1, 1)
    began_s = time.perf_counter()
    for index, view in enumerate(view for group in out for view in group):
        clip = pictures[torch.from_numpy(place[index])].float() / 255
        clip = _augment(clip, plan, b, index)
        if view.dtype == np.uint8:
            clip = (clip * 255).round()
        view[...] = clip.permute(0, 2, 3, 1).numpy()
    return time.perf_counter() - began_s


def centred_frame_to_rgb(frame: VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an 8-bit 4:2:0 frame, chroma interpolated from the pixels' centres."""
    height, width = frame.height, frame.width
    planes = [
        torch.frombuffer(plane, dtype=torch.uint8).view(-1, plane.line_size)[
            : plane.height, : plane.width
        ]
        for plane in frame.planes
    ]
    luma, *chroma = (plane.float()[None, None] for plane in planes)
    double = [2 * size for size in planes[1].shape]  # one pixel more than an odd picture has
    full = [
        torch.nn.functional.interpolate(plane, double, mode="bilinear")[..., :height, :width]
        for plane in chroma
    ]
    yuv = torch.cat([luma, *full], dim=1)[0]
    to_rgb = torch.from_numpy(frame_color(frame).to_rgb)
    rgb = torch.einsum("ck,khw->hwc", to_rgb[:, :3], yuv) + to_rgb[:, 3]
    return np.asarray((rgb * 255).round().clamp(0, 255).byte().numpy())


def _augment(clip: torch.Tensor, plan: Plan, b: int, view: int) -> torch.Tensor:
    """(T, 3, H, W) RGB in [0, 1] to (T, 3, S, S), normalised if the plan says so."""
    top, left, height, width = (int(value) for value in plan.crop[b, view])
    size = [plan.size_px, plan.size_px]
    clip = functional.resized_crop(clip, top, left, height, width, size, antialias=True)
    if plan.flip[b, view]:
        clip = functional.horizontal_flip(clip)
    color = torch.from_numpy(plan.color[b, view])
    clip = torch.einsum("ck,tkhw->tchw", color[:, :3], clip) + color[:, 3].view(1, 3, 1, 1)
    clip = clip.clamp(0, 1)
    clip = clip ** float(plan.gamma[b, view])
    for top, left, height, width in plan.erase[b, view].tolist():
        if height:
            clip = functional.erase(clip, top, left, height, width, torch.zeros(()))
    if plan.normalization is not None:
        clip = functional.normalize(clip, plan.normalization.mean, plan.normalization.std)
    return clip
