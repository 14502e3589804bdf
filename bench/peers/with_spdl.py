"""SPDL: FFmpeg's filters crop and resize; colours and erased rectangles are torch's.

A window is decoded once. Crop, resize and mirror happen in FFmpeg's filters, in a graph with one
branch for each view, so no full-size RGB picture is made.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from bench.peers import PeerRender
from bench.peers.torchvision_views import color_and_erase
from loaders.plan.draw import Plan

# Seconds on both sides of a frame's time, less than half a frame of any rate up to 60.
_MARGIN_S = 0.004


def load() -> PeerRender:
    """See `bench.peers`."""
    try:
        from spdl import io as spdl

        config = spdl.decode_config(decoder_options={"threads": "1"})
    except RuntimeError as error:  # FFmpeg's libraries are missing
        raise ImportError(str(error).splitlines()[0]) from error

    decoded = partial(spdl.decode_packets, decode_config=config)

    def render(data: bytes, plan: Plan, b: int) -> list[torch.Tensor]:
        first, last = int(plan.frames[b].min()), int(plan.frames[b].max())
        with spdl.Demuxer(data) as demuxer:
            codec = demuxer.video_codec
            numerator, denominator = codec.frame_rate
            begin, end = (number * denominator / numerator for number in (first, last))
            window = (max(begin - _MARGIN_S, 0.0), end + _MARGIN_S)
            packets = demuxer.demux_video(window)
        trim = f"trim=start={window[0]:.6f}:end={window[1]:.6f}"
        num_views = len(plan.frames[b])
        filters = [_filters(plan, b, v) for v in range(num_views)]
        if num_views == 1:  # a separate graph would cost more
            clips = [decoded(packets, filter_desc=f"{trim},{filters[0]}")]
        else:
            graph = spdl.FilterGraph(_split(spdl.get_buffer_desc(codec), filters))
            # Without a filter here, SPDL 0.8 gives no frames of a window that begins after 0.
            graph.add_frames(decoded(packets, filter_desc=trim))
            graph.flush()
            clips = [graph.get_frames(key=f"buffersink@v{v}") for v in range(num_views)]
        return [
            _view(spdl.to_numpy(spdl.convert_frames(clip)), plan, b, v)
            for v, clip in enumerate(clips)
        ]

    return render


def _split(source: str, filters: Sequence[str]) -> str:
    """A graph, as FFmpeg spells it: all frames of a source go through each of `filters`."""
    ends = "".join(f"[{v}]" for v in range(len(filters)))
    branches = [f"[{v}]{text},buffersink@v{v}" for v, text in enumerate(filters)]
    return ";".join([f"{source},split={len(filters)}{ends}", *branches])


def _filters(plan: Plan, b: int, v: int) -> str:
    """Each frame of a view once, cropped, resized and mirrored."""
    first = int(plan.frames[b].min())
    chosen = "+".join(f"eq(n,{frame - first})" for frame in np.unique(plan.frames[b, v]))
    top, left, height, width = plan.crop[b, v].tolist()
    return ",".join(
        (
            f"select='{chosen}'",
            f"crop={width}:{height}:{left}:{top}:exact=1",
            f"scale={plan.size_px}:{plan.size_px}:flags=bilinear",
            *(["hflip"] if plan.flip[b, v] else []),
            "format=rgb24",
        )
    )


def _view(pictures: np.ndarray, plan: Plan, b: int, v: int) -> torch.Tensor:
    """The view, from (N, S, S, 3) uint8, each of its frames once."""
    _, place = np.unique(plan.frames[b, v], return_inverse=True)
    clip = torch.from_numpy(pictures).permute(0, 3, 1, 2)[torch.from_numpy(place)]
    return color_and_erase(clip, plan, b, v)
