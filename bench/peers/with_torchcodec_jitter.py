"""torchcodec, then torchvision v2's own colour transforms, as in most loaders.

It does the same crops, flips and erased rectangles. On average it does as many colour operations as
the plan, but not the same ones (torchvision turns hue in HSV), so its pixels differ.
"""

import numpy as np
import torch
from torchvision.transforms import v2

from bench.peers import PeerRender, torchcodec_decoder
from bench.peers.torchvision_views import crop_and_flip, erase
from loaders.plan.draw import Plan
from loaders.plan.stage_views import PRETRAIN_AUGMENT as AUGMENT


def load() -> PeerRender:
    """See `bench.peers`."""
    decoder_of = torchcodec_decoder()

    jitter = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(contrast=AUGMENT.contrast)], AUGMENT.contrast_p),
            v2.RandomApply([v2.ColorJitter(hue=AUGMENT.hue)], AUGMENT.color_p),
            v2.RandomApply([v2.ColorJitter(saturation=AUGMENT.saturation)], AUGMENT.color_p),
            v2.RandomApply([v2.ColorJitter(brightness=AUGMENT.brightness)], AUGMENT.color_p),
            v2.RandomGrayscale(AUGMENT.grey_p),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        frames = decoder_of(data, num_ffmpeg_threads=1).get_frames_at(needed.tolist()).data
        views = []
        for view, indices in enumerate(place.reshape(plan.frames[b].shape)):
            clip = jitter(crop_and_flip(frames[torch.from_numpy(indices)], plan, b, view))
            views.append(erase(clip, plan, b, view).movedim(1, 0))
        return views

    return render
