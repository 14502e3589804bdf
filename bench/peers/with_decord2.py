"""decord2 (its module is `decord`), then torchvision v2."""

import io

import numpy as np
import torch

from bench.peers import PeerRender
from bench.peers.torchvision_views import torchvision_views
from loaders.plan.draw import Plan


def load() -> PeerRender:
    """See `bench.peers`."""
    import decord

    decord.bridge.set_bridge("torch")

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        frames = reader.get_batch(needed.tolist()).permute(0, 3, 1, 2)
        return torchvision_views(frames, place.reshape(plan.frames[b].shape), plan, b)

    return render
