"""torchcodec, then torchvision v2."""

import numpy as np
import torch

from bench.peers import PeerRender, torchcodec_decoder
from bench.peers.torchvision_views import torchvision_views
from loaders.plan.draw import Plan


def load() -> PeerRender:
    """See `bench.peers`."""
    decoder_of = torchcodec_decoder()

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        decoder = decoder_of(data, num_ffmpeg_threads=1)
        frames = decoder.get_frames_at(needed.tolist()).data
        return torchvision_views(frames, place.reshape(plan.frames[b].shape), plan, b)

    return render
