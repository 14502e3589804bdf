"""Makes a plan's views of decoded RGB frames with torchvision v2."""

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from loaders.plan.draw import Plan


def torchvision_views(
    frames: torch.Tensor, place: np.ndarray, plan: Plan, b: int
) -> list[torch.Tensor]:
    """The views of row `b` from its decoded frames.

    Args:
        frames: (N, 3, H, W) uint8 on any device; fastest where the memory is (N, H, W, 3).
        place: (V, T) index into the N frames.
        plan: The plan.
        b: Its row.

    Returns:
        V tensors (3, T, S, S) float32 in [0, 1], on that device.
    """
    return [
        _view(frames[torch.from_numpy(place[view])], plan, b, view) for view in range(len(place))
    ]


def _view(clip: torch.Tensor, plan: Plan, b: int, view: int) -> torch.Tensor:
    return color_and_erase(crop_and_flip(clip, plan, b, view), plan, b, view)


def color_and_erase(clip: torch.Tensor, plan: Plan, b: int, view: int) -> torch.Tensor:
    """(T, 3, S, S) uint8 to (3, T, S, S) float32: colour map, gamma, erased rectangles."""
    clip = functional.to_dtype(clip, torch.float32, scale=True)
    color = torch.from_numpy(plan.color[b, view]).to(clip.device)
    clip = torch.einsum("ck,tkhw->tchw", color[:, :3], clip).add_(color[:, 3].view(1, 3, 1, 1))
    clip = clip.clamp_(0, 1)
    if plan.gamma[b, view] != 1:
        clip = clip ** float(plan.gamma[b, view])
    return erase(clip, plan, b, view).movedim(1, 0)


def crop_and_flip(clip: torch.Tensor, plan: Plan, b: int, view: int) -> torch.Tensor:
    """The plan's crop, resized; uint8 stays uint8."""
    top, left, height, width = (int(value) for value in plan.crop[b, view])
    size = [plan.size_px, plan.size_px]
    clip = functional.resized_crop(clip, top, left, height, width, size, antialias=True)
    return functional.horizontal_flip(clip) if plan.flip[b, view] else clip


def erase(clip: torch.Tensor, plan: Plan, b: int, view: int) -> torch.Tensor:
    """Makes the plan's rectangles black."""
    for top, left, height, width in plan.erase[b, view].tolist():
        if height:
            clip = functional.erase(clip, top, left, height, width, torch.zeros(()), inplace=True)
    return clip
