"""The engines by name: what "auto" stands for on this machine, and how each engine is opened."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from loaders.devices import named_device
from loaders.engines.dali.layout import DaliLayout, DaliViews, Layout, TryLayouts
from loaders.engines.dali.meter import Nvml
from loaders.engines.dali.nvdec import GPU_CODECS, NvdecError, decoder_caps
from loaders.engines.engine import AUTO, EngineName
from loaders.engines.speeds import kept_speeds
from loaders.plan.draw import Plan
from loaders.plan.normalization import normalization_name
from loaders.plan.planner import Planner
from loaders.plan.views import ViewSpec
from shards.cpus import num_cpus
from shards.errors import InputError, printable
from shards.reader import ShardReader

if TYPE_CHECKING:
    from loaders.engines.dali.engine import DaliEngine

_logger = logging.getLogger(__name__)

DTYPES = ("float32", "float16", "uint8")


# The engines among which "auto" chooses on a GPU: that of the GPU, then that of the CPU.
_MEASURED = (EngineName.DALI, EngineName.FUSED)
_ADVANTAGE = 2.0
"""With "auto", dali must be this many times as fast as fused, because it slows a training down.

On an H200 the student's step took 1.20 times as long beside dali and 1.01 times as long beside
fused. Both engines could have given more than twice the videos that the step took.
"""
# The packages whose versions the speeds depend on.
_PACKAGES = (
    "timebalance",
    "av",
    "numba",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
    "torch",
    "triton",
)


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """An engine, and why it is that one.

    Attributes:
        name: The engine.
        why: The reason, for the log and for the record of a run.
        views: What makes the views in dali, where a run keeps that; None elsewhere.
    """

    name: EngineName
    why: str
    views: DaliViews | None = None


def choose_engine(
    engine: str,
    planner: Planner,
    dtype: str,
    device: torch.device,
    num_workers: int,
    layout: Layout | None,
    not_for_dali: Sequence[str],
    measure: Callable[[EngineName], float],
) -> EngineChoice:
    """The engine that `engine` ("auto" or a name) stands for.

    "auto" is fused where dali does not run. Where dali runs, both are measured once for each
    machine, kind of views and kind of videos, and "auto" is dali if it is at least `_ADVANTAGE`
    times as fast. Rank 0 logs the outcome.

    Args:
        engine: "auto" or a name.
        planner: Makes the plans; its manifest describes the videos.
        dtype: NumPy's name of the views' type.
        device: Where batches end up.
        num_workers: Number of threads.
        layout: A layout of dali's pipelines. With one, "auto" is dali where dali runs.
        not_for_dali: The arguments that are given and that dali does not take. With one, "auto" is
            fused.
        measure: Engine -> videos/s.

    Raises:
        InputError: There is no engine of that name.
    """
    codecs = planner.manifest.distinct_codecs
    choice = unmeasured_choice(engine, str(device), codecs)
    if choice is None and layout is not None:
        choice = EngineChoice(name=EngineName.DALI, why="only dali has a layout")
    elif choice is None and not_for_dali:
        choice = EngineChoice(name=EngineName.FUSED, why=f"dali has no {not_for_dali[0]}")
    if choice is None:
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
        choice = _measured_choice(key, measure)
    if planner.rank == 0 and engine == AUTO:
        log_choice(choice)
    return choice


def unmeasured_choice(engine: str, device: str, codecs: frozenset[str]) -> EngineChoice | None:
    """The engine that `engine` stands for; None if that has to be measured.

    Args:
        engine: "auto" or a name.
        device: A torch device.
        codecs: The codecs of the videos, by FFmpeg's names.

    Raises:
        InputError: There is no engine of that name.
    """
    if engine != AUTO:
        if engine not in list(EngineName):
            raise InputError(f"engine is {engine!r}: choose one of {AUTO}, {', '.join(EngineName)}")
        return EngineChoice(name=EngineName(engine), why="it was asked for")
    obstacle = why_not_dali(device, codecs)
    return EngineChoice(name=EngineName.FUSED, why=obstacle) if obstacle else None


def _measured_choice(
    key: Mapping[str, object], measure: Callable[[EngineName], float]
) -> EngineChoice:
    try:
        speeds = kept_speeds(key, _MEASURED, lambda: {name: measure(name) for name in _MEASURED})
    except (InputError, RuntimeError) as error:
        # DALI reports with RuntimeError. The next loader tries again, because nothing was kept.
        reason = f"dali was tried and failed: {printable(str(error))[:300]}"
        return EngineChoice(name=EngineName.FUSED, why=reason)
    on_gpu, on_cpu = _MEASURED
    ratio = speeds[on_gpu] / speeds[on_cpu]
    told = ", ".join(f"{name} {speeds[name]:.1f}" for name in _MEASURED)
    why = f"measured here, in videos/s: {told}"
    if 1 < ratio < _ADVANTAGE:
        why += f"; {on_gpu} must be {_ADVANTAGE:g} times as fast, as training is slower beside it"
    return EngineChoice(name=on_gpu if ratio >= _ADVANTAGE else on_cpu, why=why)


@lru_cache
def log_choice(choice: EngineChoice) -> None:
    """Logs which engine "auto" is, once per process and choice."""
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
    place = named_device(device)
    if place.type != "cuda":
        return f"the device is {device}"
    if not dali_is_installed():
        return "DALI is not installed: pip install 'timebalance[dali]'"
    if not codecs <= GPU_CODECS:
        return f"DALI does not decode {', '.join(sorted(codecs - GPU_CODECS))} on a GPU"
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
    layout: Layout | None,
) -> "DaliEngine":
    """The engine `dali` for a planner's plans.

    Args:
        planner: Makes the plans; its manifest describes the videos.
        reader: Reads the videos on which layouts are tried.
        dtype: NumPy's name of the views' type.
        device: Where batches end up.
        num_workers: Number of threads.
        layout: The layout of the pipelines, or how to find it; None: a usual one.

    Raises:
        InputError: DALI is not installed, or does not take these videos or this layout.
    """
    if not dali_is_installed():
        raise InputError("engine dali is not installed: pip install 'timebalance[dali]'")
    from loaders.engines.dali.engine import open_dali_engine  # slow, and DALI is an extra
    from loaders.engines.dali.trials import with_best_layout

    given = layout.views if isinstance(layout, TryLayouts) else layout
    engine = open_dali_engine(
        planner.manifest,
        planner.rows,
        planner.spec,
        dtype=dtype,
        device=device,
        batch_size=planner.batch_size,
        num_workers=num_workers,
        layout=given if isinstance(given, DaliLayout) else DaliViews(given or DaliViews.OPERATORS),
    )
    if isinstance(layout, TryLayouts):
        if layout.gpu_memory_mb is not None and device.type != "cuda":
            raise InputError(f"gpu_memory_mb is for GPUs, and the device is {device}: leave it out")
        plans: Callable[[], Iterator[Plan]] = planner.stream
        return with_best_layout(engine, reader, plans, layout)
    return engine
