"""The engines by name: what "auto" stands for on this machine, and how each engine is opened."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import lru_cache
from importlib.util import find_spec

import torch

from loaders.engines.dali.layout import DaliLayout, TryLayouts
from loaders.engines.dali.nvdec import GPU_CODECS, NvdecError, decoder_caps
from loaders.engines.engine import Engine
from loaders.plan.draw import Plan
from loaders.plan.normalization import normalization_name
from loaders.plan.planner import Planner
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.reader import ShardReader

DTYPES = ("float32", "float16", "uint8")


class EngineName(StrEnum):
    """The engines."""

    DALI = "dali"
    """NVDEC and DALI on a GPU; the same graph on a CPU, slowly."""
    FUSED = "fused"
    """PyAV and one compiled pass per view, on the CPU."""
    REFERENCE = "reference"
    """PyAV, torchvision and plain torch, one operation per line: the oracle, slow."""


def engine_name(
    engine: str, device: str = "auto", codecs: frozenset[str] = frozenset({"h264"})
) -> EngineName:
    """The engine that `engine` ("auto" or a name) stands for on this machine.

    Args:
        engine: "auto" or a name.
        device: A torch device, or "auto".
        codecs: The codecs of the videos, by FFmpeg's names (`Manifest.distinct_codecs`).

    Raises:
        InputError: There is no engine of that name.
    """
    if engine == "auto":
        return auto_engine(device, codecs)[0]
    if engine not in list(EngineName):
        raise InputError(f"engine is {engine!r}: choose one of auto, {', '.join(EngineName)}")
    return EngineName(engine)


@lru_cache
def auto_engine(device: str, codecs: frozenset[str]) -> tuple[EngineName, str]:
    """(engine, why): dali if DALI is installed and decodes all codecs on a GPU, otherwise fused."""
    obstacle = _obstacle_to_dali(device, codecs)
    if obstacle:
        return EngineName.FUSED, obstacle
    return EngineName.DALI, "this GPU decodes video"


def _obstacle_to_dali(device: str, codecs: frozenset[str]) -> str:
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if device != "auto" and torch.device(device).type != "cuda":
        return f"the device is {device}"
    if not dali_is_installed():
        return "DALI is not installed: pip install 'timebalance[dali]'"
    if not codecs <= GPU_CODECS:
        return f"DALI does not decode {', '.join(sorted(codecs - GPU_CODECS))} on a GPU"
    place = torch.device("cuda" if device == "auto" else device)
    try:
        refused = [codec for codec in sorted(codecs) if not decoder_caps(place, codec).is_supported]
    except NvdecError as error:
        return str(error)
    return f"this GPU's decoder takes no {', '.join(refused)}" if refused else ""


def dali_is_installed() -> bool:
    """Whether `nvidia.dali` can be imported; does not import it."""
    try:
        return find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        return False


def check_dtype(dtype: str, spec: ViewSpec) -> None:
    """Raises InputError for an unknown type, or one that cannot hold the values of these views."""
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    if dtype == "uint8" and spec.normalization is not None:
        raise InputError(
            f"dtype is 'uint8', which cannot hold normalised values: choose float32 or float16, or"
            f" normalization='none' instead of {normalization_name(spec.normalization)}"
        )


def open_dali(
    planner: Planner,
    reader: ShardReader,
    dtype: str,
    device: torch.device,
    num_workers: int,
    layout: DaliLayout | TryLayouts | None,
) -> Engine:
    """The engine `dali` for a planner's plans.

    Args:
        planner: Makes the plans; its manifest describes the videos.
        reader: Reads the videos on which layouts are tried.
        dtype: NumPy's name of the views' type.
        device: Where batches end up.
        num_workers: Number of threads.
        layout: The layout of the pipelines, or how to find it.

    Raises:
        InputError: DALI is not installed, or does not take these videos or this layout.
    """
    if not dali_is_installed():
        raise InputError("engine dali is not installed: pip install 'timebalance[dali]'")
    from loaders.engines.dali.engine import open_dali_engine  # slow, and DALI is an extra
    from loaders.engines.dali.trials import with_best_layout

    engine = open_dali_engine(
        planner.manifest,
        planner.rows,
        planner.spec,
        dtype=dtype,
        device=device,
        batch_size=planner.batch_size,
        num_workers=num_workers,
        layout=layout if isinstance(layout, DaliLayout) else None,
    )
    if isinstance(layout, TryLayouts):
        if layout.gpu_memory_mb is not None and device.type != "cuda":
            raise InputError(f"gpu_memory_mb is for GPUs, and the device is {device}: leave it out")
        plans: Callable[[], Iterator[Plan]] = planner.stream
        return with_best_layout(engine, reader, plans, layout.gpu_memory_mb)
    return engine
