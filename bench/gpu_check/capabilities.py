"""Step `capabilities`: the machine, its libraries, and what its video decoder takes."""

import importlib.metadata
import platform
from collections.abc import Iterator
from functools import partial

import torch

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.task import RECIPES, CheckCell, Task, num_cores
from loaders.engines.dali.meter import Nvml
from loaders.engines.dali.nvdec import GPU_CODECS, decoder_caps

_PACKAGES = (
    *("timebalance", "av", "numba", "numpy", "nvidia-dali-cuda130", "nvidia-dali-cuda120"),
    *("torch", "torchcodec", "triton"),
)
_FORMATS = {
    "h264": ("yuv420p", "yuv420p10le", "yuv422p", "yuv444p"),
    "hevc": ("yuv420p", "yuv420p10le", "yuv444p"),
    **dict.fromkeys(("mpeg4", "vp8", "vp9", "av1", "mjpeg"), ("yuv420p",)),
}


def cells(task: Task) -> Iterator[CheckCell]:
    """Machine, GPU, then each codec and pixel format."""
    yield CheckCell(name="machine", run=_machine)
    if task.is_dry:
        return
    yield CheckCell(name="gpu", run=partial(_gpu, task))
    for codec, names in _FORMATS.items():
        for name in names:
            yield CheckCell(name=f"{codec} {name}", run=partial(_format, task, codec, name))


def _machine() -> CellFigures:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": num_cores(),
        "cuda": torch.version.cuda,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu(task: Task) -> CellFigures:
    properties = torch.cuda.get_device_properties(task.device)
    return {
        "name": properties.name,
        "memory_mb": properties.total_memory // 2**20,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": Nvml(task.device).driver(),
    }


def _format(task: Task, codec: str, pixel_format: str) -> CellFigures:
    caps = decoder_caps(task.device, codec, pixel_format)
    is_needed = codec in RECIPES and pixel_format == "yuv420p"
    return {
        "nvdec": str(caps),
        "decoders": caps.num_decoders,
        "dali": codec in GPU_CODECS,
        "passed": caps.is_supported or not is_needed,
    }
