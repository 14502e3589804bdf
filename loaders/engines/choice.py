"""The engines by name, and which of them "auto" stands for.

`fused` and `reference` turn one video's bytes and its row of a plan into views, and run under the
threads of `loaders.engines.threads`. `dali` takes whole batches (`loaders.engines.dali.engine`).
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import torch

from loaders.engines import reference
from loaders.engines.dali.nvdec import NvdecError, decoder_caps
from loaders.engines.fused import render as fused
from loaders.plan.draw import Plan
from shards.errors import InputError

# (encoded bytes, plan, row of the plan, out) -> seconds of the call that were augmentation; the
# rest was decoding. Writes all views to `out`, one (V, T, S, S, 3) array a group of views: uint8,
# or float32 or float16 in [0, 1]. Raises DecodeError where the bytes lack the planned frames.
Render = Callable[[bytes, Plan, int, list[np.ndarray]], float]

ENGINES: dict[str, Render] = {"fused": fused.render, "reference": reference.render}
ENGINE_NAMES = (*ENGINES, "dali")


def engine_name(engine: str, device: str = "auto") -> str:
    """The engine that `engine` ("auto" or a name) stands for on this machine and `device`."""
    name = auto_engine(device)[0] if engine == "auto" else engine
    if name not in ENGINE_NAMES:
        raise InputError(f"engine is {engine!r}: choose one of auto, {', '.join(ENGINE_NAMES)}")
    return name


@lru_cache
def auto_engine(device: str) -> tuple[str, str]:
    """(engine, why): dali where a GPU decodes H.264 and DALI is installed, else fused."""
    obstacle = _obstacle_to_dali(device)
    if obstacle:
        return "fused", obstacle
    return "dali", "this GPU decodes video"


def _obstacle_to_dali(device: str) -> str:
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if device != "auto" and torch.device(device).type != "cuda":
        return f"the device is {device}"
    if not dali_is_installed():
        return "DALI is not installed: pip install 'timebalance[dali]'"
    try:
        caps = decoder_caps(torch.device("cuda" if device == "auto" else device), "h264")
    except NvdecError as error:
        return str(error)
    return "" if caps.is_supported else "its decoder takes no H.264"


def dali_is_installed() -> bool:
    """Whether `nvidia.dali` can be imported; does not import it."""
    try:
        return find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        return False
