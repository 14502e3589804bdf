"""PyTorchVideo decodes one clip by its start and end times, then torchvision v2."""

import io

import numpy as np
import torch

from bench.peers import PeerRender
from bench.peers.torchvision_views import torchvision_views
from loaders.plan.draw import Plan


def load() -> PeerRender:
    """See `bench.peers`."""
    from pytorchvideo.data.encoded_video_pyav import EncodedVideoPyAV

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        video = EncodedVideoPyAV(io.BytesIO(data), decode_audio=False)
        frame_s = float(video.duration) / int(plan.num_frames[b])
        clip = video.get_clip((needed[0] - 0.5) * frame_s, (needed[-1] + 0.5) * frame_s)["video"]
        video.close()
        frames = clip.to(torch.uint8).movedim(0, 1)[torch.from_numpy(needed - needed[0])]
        return torchvision_views(frames, place.reshape(plan.frames[b].shape), plan, b)

    return render
