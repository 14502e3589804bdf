"""Made-up drivers: libraries that answer as those of an H200, an RTX 4090 or a card without NVDEC.

They are compiled against the header of NVDEC that comes with DALI. So they see the bytes as a real
driver does.
"""

import ctypes
import shutil
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from loaders.engines.dali import meter, nvdec

# What the header needs of CUDA's own.
_CUDA_H = """
#define CUDAAPI
typedef int CUresult;
typedef void *CUcontext, *CUstream, *CUarray;
typedef unsigned long long CUdeviceptr;
"""
# cudaVideoCodec: the number -> smallest (width, height), largest (width, height), macroblocks.
_COMMON = {
    2: ((48, 16), (2048, 2048), 8192),  # mpeg4
    4: ((48, 16), (4096, 4096), 65536),  # h264
    5: ((64, 64), (32768, 16384), 67108864),  # mjpeg
    8: ((144, 144), (8192, 8192), 262144),  # hevc
    9: ((48, 16), (4096, 4096), 65536),  # vp8
    10: ((128, 128), (8192, 8192), 262144),  # vp9
}
_AV1 = {11: ((128, 128), (8192, 8192), 262144)}
_YUV420, _YUV444 = 1, 3
_NV12, _P016, _PLANAR_444 = 1, 2, 4


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU.

    Attributes:
        name: Its name.
        num_decoders: Its video decoders.
        codecs: What they take, 8-bit 4:2:0: see `_COMMON`.
    """

    name: str
    num_decoders: int
    codecs: dict[int, tuple[tuple[int, int], tuple[int, int], int]]


# The answers in bench/results/nvidia-h200.json, except that the real card has one decoder for JPEG.
H200 = Card(name="NVIDIA H200", num_decoders=7, codecs=_COMMON)
RTX_4090 = Card(name="NVIDIA GeForce RTX 4090", num_decoders=1, codecs=_COMMON | _AV1)
NO_NVDEC = Card(name="NVIDIA A card without NVDEC", num_decoders=0, codecs={})


class _Answer(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int)
        for name in (
            *("codec", "chroma", "bits", "num_decoders", "formats"),
            *("min_width", "min_height", "max_width", "max_height", "max_macroblocks"),
        )
    )


class Driver:
    """The libraries of a made-up driver."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library: Any = ctypes.CDLL(str(path))
        self._library.stub_question.restype = ctypes.POINTER(ctypes.c_int * 3)

    def insert(self, card: Card) -> None:
        """Makes it the driver of this card; forgets all questions."""
        self._library.stub_clear()
        for codec, (least, most, macroblocks) in card.codecs.items():
            kinds = [(_YUV420, 8, _NV12)]
            if codec == 8:  # hevc
                kinds += [(_YUV420, 10, _NV12 | _P016), (_YUV444, 8, _PLANAR_444)]
            for chroma, bits, formats in kinds:
                numbers = (codec, chroma, bits, card.num_decoders, formats)
                answer = _Answer(*numbers, *least, *most, macroblocks)
                self._library.stub_add(ctypes.byref(answer))

    def fail(self, status: int) -> None:
        """Makes every call fail with this status; 0 ends that."""
        self._library.stub_fail(status)

    def questions(self) -> list[tuple[int, ...]]:
        """(codec, chroma format, bits) of each question so far."""
        count = self._library.stub_num_questions()
        return [tuple(self._library.stub_question(n).contents) for n in range(count)]


def build_driver(folder: Path) -> Driver:
    """Compiles the libraries; skips the test without a compiler or DALI's headers."""
    library = folder / "driver.so"
    source = Path(__file__).with_name("driver_stub.c")
    options = ["-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source)]
    subprocess.run([*_compiler(folder), *options], check=True)
    return Driver(library)


def _compiler(folder: Path) -> list[str]:
    compiler, spec = shutil.which("cc"), find_spec("nvidia.dali")
    if compiler is None or spec is None or spec.origin is None:
        pytest.skip("needs a C compiler and DALI")
    headers = Path(spec.origin).parent / "include" / "dali" / "operators" / "video"
    (folder / "cuda.h").write_text(_CUDA_H)
    return [compiler, "-I", str(folder), "-isystem", str(headers / "dynlink_nvcuvid")]


def use_driver(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the driver in the place of this machine's for a test."""
    nvdec.decoder_caps.cache_clear()
    monkeypatch.setattr(nvdec, "_LIBRARY", str(driver.path))
    monkeypatch.setattr(nvdec, "_context", lambda _: nullcontext())
    monkeypatch.setattr(meter, "_LIBRARY", str(driver.path))
    monkeypatch.setattr(meter, "_uuid", lambda _: "GPU-stub")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("loaders.engines.dali.engine.caps_cache", lambda: None)


def header_values(folder: Path, names: list[str]) -> list[int]:
    """The values of C expressions, as the compiler sees them with NVIDIA's header."""
    program = folder / "values"
    lines = "".join(f'printf("%d\\n", (int)({name}));' for name in names)
    source = (
        f"#include <stddef.h>\n#include <stdio.h>\n#include <cuviddec.h>\nint main() {{{lines}}}"
    )
    command = [*_compiler(folder), "-x", "c", "-o", str(program), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]
