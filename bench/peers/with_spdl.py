"""SPDL: FFmpeg's filters crop and resize while decoding; colours and erased rectangles are torch's.

One clip is its best case: crop, resize and mirror happen in the filter graph, so no full-size RGB
picture is made. Several views of one window share one decode to full-size RGB, because a decode for
each view would cost more.
"""

import numpy as np
import torch

from bench.peers import Render
from bench.peers.torchvision_views import color_and_erase, torchvision_views
from loaders.plan.draw import Plan

# Seconds on both sides of a frame's time, less than half a frame of any rate up to 60.
_MARGIN_S = 0.004


def load() -> Render:
    """See `bench.peers`."""
    try:
        from spdl import io as spdl

        config = spdl.decode_config(decoder_options={"threads": "1"})
    except RuntimeError as error:  # FFmpeg's libraries are missing
        raise ImportError(str(error).splitlines()[0]) from error

    def decoded(data: bytes, first: int, last: int, filters: str) -> torch.Tensor:
        """(last - first + 1, 3, H, W) uint8."""
        with spdl.Demuxer(data) as demuxer:
            numerator, denominator = demuxer.video_codec.frame_rate
            begin, end = (number * denominator / numerator for number in (first, last))
            window = (max(begin - _MARGIN_S, 0.0), end + _MARGIN_S)
            packets = demuxer.demux_video(window)
        trim = f"trim=start={window[0]:.6f}:end={window[1]:.6f}"
        frames = spdl.decode_packets(
            packets, filter_desc=f"{trim}{filters},format=rgb24", decode_config=config
        )
        return torch.from_numpy(spdl.to_numpy(spdl.convert_frames(frames))).permute(0, 3, 1, 2)

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        first, last = int(plan.frames[b].min()), int(plan.frames[b].max())
        place = plan.frames[b] - first
        if len(place) > 1:
            return torchvision_views(decoded(data, first, last, ""), place, plan, b)
        top, left, height, width = plan.crop[b, 0].tolist()
        filters = f",crop={width}:{height}:{left}:{top}:exact=1"
        filters += f",scale={plan.size_px}:{plan.size_px}:flags=bilinear"
        filters += ",hflip" if plan.flip[b, 0] else ""
        clip = decoded(data, first, last, filters)[torch.from_numpy(np.asarray(place[0]))]
        return [color_and_erase(clip, plan, b, 0)]

    return render
