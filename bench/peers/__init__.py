"""Other ways to make a plan's views from a shard's bytes, one small file each.

Each module has `load() -> PeerRender`. It imports its library (ImportError means that it is not
installed) and returns a function (bytes, plan, row of the plan) -> one (3, T, S, S) float32 tensor
in [0, 1] per view. The peers get the advantages of the plan: the frames of all views are decoded
once, and one matrix does all colour operations. A loader with separate colour transforms is slower.
"""

from collections.abc import Callable
from typing import Any

import torch

from loaders.plan.draw import Plan

PeerRender = Callable[[bytes, Plan, int], list[torch.Tensor]]
PEERS = {
    "torchcodec": "bench.peers.with_torchcodec",
    "torchcodec-jitter": "bench.peers.with_torchcodec_jitter",
    "decord2": "bench.peers.with_decord2",
    "spdl": "bench.peers.with_spdl",
    "spdl-threads": "bench.peers.with_spdl",
    "video-reader-rs": "bench.peers.with_video_reader",
    "pytorchvideo": "bench.peers.with_pytorchvideo",
    "opencv-pil": "bench.peers.with_opencv_pil",
    "dali-cpu": "bench.peers.with_dali_cpu",
}
THREADED = {"spdl-threads"}
"""Peers that run in threads of one process, as SPDL's pipeline does, not in worker processes."""


def torchcodec_decoder() -> Any:
    """torchcodec's VideoDecoder; ImportError also where FFmpeg's libraries are not found."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (OSError, RuntimeError) as error:
        raise ImportError(str(error).strip().splitlines()[0]) from error
    return VideoDecoder
