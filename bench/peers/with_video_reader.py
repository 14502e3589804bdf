"""video-reader-rs: FFmpeg's filters crop and resize while decoding; the rest is torch's.

Several views of one window share one decode to full-size RGB. The library reads files, not bytes,
so it gets a file in memory.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from bench.peers import PeerRender
from bench.peers.torchvision_views import color_and_erase, torchvision_views
from loaders.plan.draw import Plan


def load() -> PeerRender:
    """See `bench.peers`."""
    _load_missing_library()
    from video_reader import PyVideoReader

    def decoded(data: bytes, numbers: list[int], filters: str | None) -> torch.Tensor:
        """(len(numbers), 3, H, W) uint8."""
        with _file(data) as path:
            reader = PyVideoReader(path, threads=1, filter=filters)
            return torch.from_numpy(reader.get_batch(numbers)).permute(0, 3, 1, 2)

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        place = place.reshape(plan.frames[b].shape)
        if len(place) > 1:
            return torchvision_views(decoded(data, needed.tolist(), None), place, plan, b)
        top, left, height, width = plan.crop[b, 0].tolist()
        filters = f"crop={width}:{height}:{left}:{top}:exact=1"
        filters += f",scale={plan.size_px}:{plan.size_px}:flags=bilinear"
        filters += ",hflip" if plan.flip[b, 0] else ""
        clip = decoded(data, needed.tolist(), f"{filters},format=yuv420p")
        return [color_and_erase(clip[torch.from_numpy(place[0])], plan, b, 0)]

    return render


def _load_missing_library() -> None:
    """Loads a library that the wheel of 0.4.5 contains but does not find."""
    package = find_spec("video_reader")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parents[1] / "video_reader_rs.libs"
        for library in folder.glob("libsharpyuv*"):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("video")
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
