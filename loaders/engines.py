"""The engines by name. An engine turns one video's bytes and its row of a plan into views."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from loaders import fused, reference
from loaders.plan import Plan
from shards.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Two steps, so that the time of each can be told.

    Attributes:
        decode: (encoded bytes, plan, row of the plan) -> the frames that the row needs. Raises
            DecodeError where the bytes do not yield them.
        augment: (what `decode` returned, plan, row, out) -> None. Writes all views to `out`, one
            (V, T, S, S, 3) array a group of views: uint8, or float32 or float16 in [0, 1].
    """

    decode: Callable[[bytes, Plan, int], Any]
    augment: Callable[[Any, Plan, int, list[np.ndarray]], None]


ENGINES = {
    "fused": Engine(decode=fused.decode, augment=fused.augment),
    "reference": Engine(decode=reference.decode, augment=reference.augment),
}


def engine_name(engine: str) -> str:
    """The engine that `engine` ("auto" or a name) stands for on this machine."""
    name = "fused" if engine == "auto" else engine
    if name not in ENGINES:
        raise InputError(f"engine is {engine!r}: choose one of auto, {', '.join(ENGINES)}")
    return name
