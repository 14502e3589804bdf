"""The engines by name. An engine turns one video's bytes and its row of a plan into views."""

from collections.abc import Callable

import numpy as np

from loaders import fused, reference
from loaders.plan import Plan
from shards.errors import InputError

# (encoded bytes, plan, row of the plan, out) -> seconds of the call that were augmentation; the
# rest was decoding. Writes all views to `out`, one (V, T, S, S, 3) array a group of views: uint8,
# or float32 or float16 in [0, 1]. Raises DecodeError where the bytes lack the planned frames.
Render = Callable[[bytes, Plan, int, list[np.ndarray]], float]

ENGINES: dict[str, Render] = {"fused": fused.render, "reference": reference.render}


def engine_name(engine: str) -> str:
    """The engine that `engine` ("auto" or a name) stands for on this machine."""
    name = "fused" if engine == "auto" else engine
    if name not in ENGINES:
        raise InputError(f"engine is {engine!r}: choose one of auto, {', '.join(ENGINES)}")
    return name
