"""The oracle: PyAV to RGB, then torchvision and plain torch, one operation per line. Slow."""

import time

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from torchvision.transforms.v2 import functional

from loaders.decode import decode_frames
from loaders.plan.draw import Plan
from loaders.yuv import is_bt709, is_full_range
from shards.format.packet_index import Window

# FFmpeg's default RGB conversion is fast and off by a level on average. These flags make it round
# correctly and interpolate chroma.
_EXACT = (
    int(Interpolation.BILINEAR)
    | int(Interpolation.ACCURATE_RND)
    | int(Interpolation.FULL_CHR_H_INT)
)


def render_video(video: bytes | Window, plan: Plan, b: int, out: list[np.ndarray]) -> float:
    """See `loaders.engines.engine.RenderVideo`."""
    needed = np.unique(plan.frames[b])
    place = np.searchsorted(needed, plan.frames[b])
    frames = dict(decode_frames(video, needed, int(plan.num_frames[b]), plan.sizes[b].tolist()))
    rgb = np.stack([frame_to_rgb(frames[k]) for k in range(len(needed))])
    pictures = torch.from_numpy(rgb).movedim(-1, 1)
    began_s = time.perf_counter()
    for index, view in enumerate(view for group in out for view in group):
        clip = pictures[torch.from_numpy(place[index])].float() / 255
        clip = _augment(clip, plan, b, index)
        if view.dtype == np.uint8:
            clip = (clip * 255).round()
        view[...] = clip.permute(0, 2, 3, 1).numpy()
    return time.perf_counter() - began_s


def frame_to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB from FFmpeg's scaler, with the frame's matrix and range."""
    return frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if is_bt709(frame) else Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if is_full_range(frame) else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT,
    ).to_ndarray()


def _augment(clip: torch.Tensor, plan: Plan, b: int, view: int) -> torch.Tensor:
    """(T, 3, H, W) RGB in [0, 1] to (T, 3, S, S)."""
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
    return clip
