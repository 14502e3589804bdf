"""torchcodec, then torchvision v2."""

import numpy as np
import torch

from bench.peers import Render
from bench.peers.torchvision_views import torchvision_views
from loaders.plan import Plan


def load() -> Render:
    """See `bench.peers`."""
    from torchcodec.decoders import VideoDecoder

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        decoder = VideoDecoder(data, num_ffmpeg_threads=1)
        frames = decoder.get_frames_at(needed.tolist()).data
        return torchvision_views(frames, place.reshape(plan.frames[b].shape), plan, b)

    return render
