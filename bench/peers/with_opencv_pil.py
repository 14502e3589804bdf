"""OpenCV decodes from the first frame, then PIL works frame by frame, as in published loaders.

OpenCV opens only files, so the bytes go through a temporary file, in memory if there is /dev/shm.
"""

import os
import tempfile

import numpy as np
import torch
from PIL import Image

from bench.peers import PeerRender
from loaders.plan.draw import Plan

_SHARED_MEMORY = "/dev/shm"


def load() -> PeerRender:
    """See `bench.peers`."""
    import cv2

    cv2.setNumThreads(1)

    def decode(data: bytes, last: int) -> list[Image.Image]:
        folder = _SHARED_MEMORY if os.path.isdir(_SHARED_MEMORY) else None
        with tempfile.NamedTemporaryFile(suffix=".mp4", dir=folder) as file:
            file.write(data)
            file.flush()
            capture = cv2.VideoCapture(file.name)
            pictures = [capture.read()[1] for _ in range(last + 1)]
            capture.release()
        return [Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)) for bgr in pictures]

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        pictures = decode(data, int(plan.frames[b].max()))
        views = []
        for view, indices in enumerate(plan.frames[b].tolist()):
            frames = [_picture(pictures[index], plan, b, view) for index in indices]
            views.append(torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float() / 255)
        return views

    return render


def _picture(picture: Image.Image, plan: Plan, b: int, view: int) -> np.ndarray:
    top, left, height, width = plan.crop[b, view].tolist()
    picture = picture.crop((left, top, left + width, top + height))
    picture = picture.resize((plan.size_px, plan.size_px), Image.Resampling.BILINEAR)
    if plan.flip[b, view]:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    color = plan.color[b, view].astype(float) * [1, 1, 1, 255]
    picture = picture.convert("RGB", tuple(color.ravel()))
    gamma = float(plan.gamma[b, view])
    if gamma != 1:
        picture = picture.point([255 * (level / 255) ** gamma for level in range(256)] * 3)
    for top, left, height, width in plan.erase[b, view].tolist():
        picture.paste((0, 0, 0), (left, top, left + width, top + height))
    return np.asarray(picture)
