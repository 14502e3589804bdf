"""The engines by name: what "auto" stands for on this machine, and how each engine is opened."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from loaders.engines.dali.layout import DaliLayout, TryLayouts
from loaders.engines.dali.meter import Nvml
from loaders.engines.dali.nvdec import GPU_CODECS, NvdecError, decoder_caps
from loaders.engines.engine import Engine, RenderVideo
from loaders.engines.speeds import kept_speeds
from loaders.engines.threads import ThreadedEngine
from loaders.plan.draw import Plan
from loaders.plan.planner import Planner
from shards.cpus import num_cpus
from shards.errors import InputError, printable
from shards.reader import ShardReader

_logger = logging.getLogger(__name__)

DTYPES = ("float32", "float16", "uint8")


class EngineName(StrEnum):
    """The engines."""

    DALI = "dali"
    """NVDEC and DALI on a GPU; the same graph on a CPU, slowly."""
    FUSED = "fused"
    """PyAV and one compiled pass per view, on the CPU."""
    REFERENCE = "reference"
    """PyAV, torchvision and plain torch, one operation per line: the oracle, slow."""


# The engines among which "auto" chooses on a GPU. Of two that are equally fast, it takes the first.
_MEASURED = (EngineName.DALI, EngineName.FUSED)
_PACKAGES = (
    *(
        "timebalance",
        "av",
        "numba",
        "nvidia-dali-cuda120",
        "nvidia-dali-cuda130",
        "torch",
        "triton",
    ),
)


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """An engine, and why it is that one.

    Attributes:
        name: The engine.
        why: The reason, for the log and for the record of a run.
    """

    name: EngineName
    why: str


def choose_engine(
    engine: str,
    planner: Planner,
    dtype: str,
    device: torch.device,
    num_workers: int,
    layout: DaliLayout | TryLayouts | None,
    measure: Callable[[EngineName], float],
) -> EngineChoice:
    """The engine that `engine` ("auto" or a name) stands for.

    "auto" is fused where dali does not run. Where it runs, both are measured, once for all that the
    speeds depend on, and the faster one is chosen. Rank 0 logs the outcome.

    Args:
        engine: "auto" or a name.
        planner: Makes the plans; its manifest describes the videos.
        dtype: NumPy's name of the views' type.
        device: Where batches end up.
        num_workers: Number of threads.
        layout: A layout of dali's pipelines, which only dali has.
        measure: Engine -> videos/s.

    Raises:
        InputError: There is no engine of that name.
    """
    if engine != "auto":
        if engine not in list(EngineName):
            raise InputError(f"engine is {engine!r}: choose one of auto, {', '.join(EngineName)}")
        return EngineChoice(name=EngineName(engine), why="it was asked for")
    codecs = planner.manifest.distinct_codecs
    if obstacle := why_not_dali(str(device), codecs):
        choice = EngineChoice(name=EngineName.FUSED, why=obstacle)
    elif layout is not None:
        choice = EngineChoice(name=EngineName.DALI, why="only dali has a layout")
    else:
        key = {
            **_machine(device),
            "stage": planner.spec.name,
            "size_px": planner.spec.size_px,
            "dtype": dtype,
            "views": hashlib.sha256(repr(planner.spec).encode()).hexdigest(),
            "batch_size": planner.batch_size,
            "workers": num_workers,
            "codecs": sorted(codecs),
        }
        choice = _faster_engine(key, measure)
    if planner.rank == 0:
        _log_once(choice)
    return choice


def _faster_engine(
    key: Mapping[str, object], measure: Callable[[EngineName], float]
) -> EngineChoice:
    try:
        speeds = kept_speeds(key, lambda: {name: measure(name) for name in _MEASURED})
    except (InputError, RuntimeError) as error:
        # DALI reports with RuntimeError. The next loader tries again, because nothing was kept.
        reason = f"dali was tried and failed: {printable(str(error))[:300]}"
        return EngineChoice(name=EngineName.FUSED, why=reason)
    best = max(_MEASURED, key=lambda name: speeds[name])
    told = ", ".join(f"{name} {speeds[name]:.1f}" for name in _MEASURED)
    return EngineChoice(name=best, why=f"measured here, in videos/s: {told}")


@lru_cache
def _log_once(choice: EngineChoice) -> None:
    """Logs once per process and choice which engine was chosen."""
    _logger.info("loader: engine %s (%s)", choice.name, choice.why)


def _machine(device: torch.device) -> dict[str, object]:
    """What the speed of engines depends on in this machine."""
    gpu, driver = "none", "none"
    if device.type == "cuda":
        gpu = torch.cuda.get_device_name(device)
        with suppress(OSError):
            driver = Nvml(device).driver()
    versions = {name: _version(name) for name in _PACKAGES}
    return {"gpu": gpu, "driver": driver, "cpus": num_cpus(), "versions": versions}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@lru_cache
def why_not_dali(device: str, codecs: frozenset[str]) -> str:
    """Why dali cannot decode videos in `codecs` on a GPU here; empty if it can.

    Args:
        device: A torch device, or "auto".
        codecs: The codecs of the videos, by FFmpeg's names (`Manifest.distinct_codecs`).
    """
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


def open_engine(
    name: EngineName,
    planner: Planner,
    reader: ShardReader,
    dtype: str,
    device: torch.device,
    num_workers: int,
    layout: DaliLayout | TryLayouts | None,
) -> Engine:
    """An engine for a planner's plans.

    Args:
        name: The engine.
        planner: Makes the plans; its manifest describes the videos.
        reader: Reads the videos on which layouts are tried.
        dtype: NumPy's name of the views' type.
        device: Where batches end up.
        num_workers: Number of threads.
        layout: The layout of DALI's pipelines, or how to find it.

    Raises:
        InputError: An argument is out of range, the engine is not installed, it does not take these
            videos, or it has no layout and one is given.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    if num_workers < 1:
        raise InputError(f"num_workers is {num_workers}: give 1 or more, or leave it out")
    if name == EngineName.DALI:
        return _open_dali(planner, reader, dtype, device, num_workers, layout)
    if layout is not None:
        raise InputError(f"layout is for the engine dali, and this is {name}: leave it out")
    return ThreadedEngine(
        _compiled() if name == EngineName.FUSED else _reference(),
        planner.spec,
        dtype=dtype,
        batch_size=planner.batch_size,
        num_workers=num_workers,
    )


def _compiled() -> RenderVideo:
    # Numba is slow to import. Another version of it may lack the internals that the engine uses.
    try:
        from loaders.engines.fused.render import render_video
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"engine fused cannot be used ({error}): install the version of Numba that this package"
            " asks for, or choose the engine reference"
        ) from error
    return render_video


def _reference() -> RenderVideo:
    from loaders.engines.reference import render_video

    return render_video


def _open_dali(
    planner: Planner,
    reader: ShardReader,
    dtype: str,
    device: torch.device,
    num_workers: int,
    layout: DaliLayout | TryLayouts | None,
) -> Engine:
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
