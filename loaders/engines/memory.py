"""What a video takes in memory, as arithmetic, and the refusal of an engine that cannot fit."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loaders.plan.views import Start, ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest

if TYPE_CHECKING:
    import torch

MB = 2**20
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def usual_picture_px(manifest: Manifest, rows: np.ndarray) -> float:
    """Pixels of a picture, on average over these rows of a manifest."""
    return float((manifest.heights[rows].astype(float) * manifest.widths[rows]).mean())


def num_pictures(spec: ViewSpec) -> int:
    """Different frames that the views of a long video show."""
    if spec.whole or spec.start == Start.EVEN:
        # Clips of a long video do not overlap. The crops of a clip show the same frames.
        return spec.num_views // spec.num_crops * spec.num_frames
    return len(np.unique(spec.offsets))


def view_bytes(spec: ViewSpec, dtype: str) -> int:
    """Bytes of one video's views."""
    pixels = spec.num_views * spec.num_frames * spec.size_px**2
    return pixels * 3 * np.dtype(dtype).itemsize


def refuse_too_much(memory_mb: float, device: "torch.device", knobs: Sequence[str]) -> None:
    """Raises InputError if the prediction is more than the device can give.

    Args:
        memory_mb: The prediction, MiB.
        device: Where the memory is taken.
        knobs: The arguments that change it; two or more.
    """
    limit_mb = _limit_mb(device)
    if limit_mb is not None and memory_mb > limit_mb:
        raise InputError(
            f"the loader would take about {memory_mb:,.0f} MB of memory on {device}, which has "
            f"{limit_mb:,.0f} MB: give a smaller {', '.join(knobs[:-1])} or {knobs[-1]}"
        )


def _limit_mb(device: "torch.device") -> float | None:
    """MiB: what is free on a GPU, or all that the machine or its container has; None if unknown."""
    if device.type == "cuda":
        import torch  # slow, and the loader process does not need it

        return torch.cuda.mem_get_info(device)[0] / MB
    if not hasattr(os, "sysconf"):
        return None
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _CONTAINER_LIMIT.is_file():
        text = _CONTAINER_LIMIT.read_text().strip()
        limit = min(limit, int(text)) if text.isdecimal() else limit
    return limit / MB
