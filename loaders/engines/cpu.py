"""Opens the threaded engines `fused` and `reference`. It imports torch only for `reference`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from loaders.engines.engine import AUTO, EngineName, RenderVideo
from loaders.engines.threads import LOOKAHEAD_MB, ThreadedEngine
from loaders.plan.views import ViewSpec
from shards.decode.packet_decoder import UNUSABLE_NUMBA
from shards.errors import InputError


def open_cpu_engine(
    name: str,
    spec: ViewSpec,
    *,
    dtype: str,
    batch_size: int,
    num_workers: int,
    lookahead_mb: int = LOOKAHEAD_MB,
    picture_px: float = 0.0,
    threads: ThreadPoolExecutor | None = None,
    prepare: Callable[[np.ndarray], None] | None = None,
) -> ThreadedEngine:
    """Opens "fused" or "reference"; the arguments are those of `ThreadedEngine`.

    Raises:
        InputError: The engine cannot be used here.
    """
    return ThreadedEngine(
        cpu_render_video(name),
        spec,
        dtype=dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        lookahead_mb=lookahead_mb,
        picture_px=picture_px,
        threads=threads,
        prepare=prepare,
    )


def cpu_render_video(name: str) -> RenderVideo:
    """The function of an engine that renders single videos; `AUTO` stands for fused.

    Raises:
        InputError: There is no such engine on CPUs, or it cannot be used here.
    """
    if name not in (AUTO, EngineName.FUSED, EngineName.REFERENCE):
        raise InputError(f"engine is {name!r}: choose auto, fused or reference for single videos")
    return _reference() if name == EngineName.REFERENCE else _compiled()


def _compiled() -> RenderVideo:
    # Numba is slow to import.
    try:
        from loaders.engines.fused.render_video import render_video
    except UNUSABLE_NUMBA as error:
        raise InputError(
            f"engine fused cannot be used ({error}): install the version of Numba that this package"
            " asks for, set NUMBA_CACHE_DIR to a folder that can be written, or choose the engine"
            " reference"
        ) from error
    return render_video


def _reference() -> RenderVideo:
    from loaders.engines.reference import render_video

    return render_video
