"""What a GPU's video decoder (NVDEC) takes through DALI, checked before the first batch.

DALI decodes only the codecs in its own list. The driver is asked about those
(`cuvidGetDecoderCaps`), because DALI would fail only in the middle of an epoch.
"""

import ctypes
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from shards.counted import counted
from shards.errors import InputError
from shards.format.manifest import Manifest

_logger = logging.getLogger(__name__)

# The codecs that DALI 2.4 decodes on a GPU, by FFmpeg's names. It refuses JPEG, which NVDEC takes.
GPU_CODECS = frozenset({"mpeg4", "h264", "hevc", "vp8", "vp9", "av1"})
# cudaVideoCodec by FFmpeg's names.
_CODECS = {"mpeg4": 2, "h264": 4, "mjpeg": 5, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11}
# FFmpeg's pixel formats: (cudaVideoChromaFormat, bits).
_PIXEL_FORMATS = {
    "gray": (0, 8),
    "yuv420p": (1, 8),
    "yuvj420p": (1, 8),
    "yuv420p10le": (1, 10),
    "yuv420p12le": (1, 12),
    "yuv422p": (2, 8),
    "yuvj422p": (2, 8),
    "yuv422p10le": (2, 10),
    "yuv444p": (3, 8),
    "yuvj444p": (3, 8),
    "yuv444p10le": (3, 10),
}
_LIBRARY = "libnvcuvid.so.1"
_NV12 = 1 << 0  # the only surface that DALI converts to RGB
_MACROBLOCK_PIXELS = 256
# DALI keeps a decoder for the next video only if the coded size, which is a multiple of this, is
# the picture's size.
_CODED_STEP_PX = 16


class NvdecError(Exception):
    """NVDEC cannot be used or does not answer; the message says why."""


@dataclass(frozen=True, kw_only=True)
class DecoderCaps:
    """What NVDEC says about one codec and pixel format; sizes are in pixels.

    Attributes:
        is_supported: Whether it decodes them to 8-bit 4:2:0, which DALI needs.
        num_decoders: How many decoders on the chip do so.
        min_size: The smallest (height, width).
        max_size: The largest (height, width).
        max_macroblocks: The largest height x width / 256.
    """

    is_supported: bool
    num_decoders: int
    min_size: tuple[int, int]
    max_size: tuple[int, int]
    max_macroblocks: int

    def takes(self, height: int, width: int) -> bool:
        """Whether NVDEC decodes pictures of that size."""
        return (
            self.is_supported
            and self.min_size[0] <= height <= self.max_size[0]
            and self.min_size[1] <= width <= self.max_size[1]
            and height * width <= self.max_macroblocks * _MACROBLOCK_PIXELS
        )

    def __str__(self) -> str:
        if not self.is_supported:
            return "not decoded"
        (low, left), (high, right) = self.min_size, self.max_size
        return f"{left}x{low} to {right}x{high} px, {self.max_macroblocks} macroblocks"


class _Caps(ctypes.Structure):
    """CUVIDDECODECAPS of cuviddec.h."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma", ctypes.c_int),
        ("bits_minus_8", ctypes.c_uint),
        ("reserved1", ctypes.c_uint * 3),
        ("is_supported", ctypes.c_ubyte),
        ("num_decoders", ctypes.c_ubyte),
        ("output_formats", ctypes.c_ushort),
        ("max_width", ctypes.c_uint),
        ("max_height", ctypes.c_uint),
        ("max_macroblocks", ctypes.c_uint),
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("reserved2", ctypes.c_uint * 11),
    )


CAPS_BYTES, KEY_BYTES = ctypes.sizeof(_Caps), _Caps.reserved1.offset
"""The size of CUVIDDECODECAPS, and of the question at its start."""


@lru_cache
def decoder_caps(device: torch.device, codec: str, pixel_format: str = "yuv420p") -> DecoderCaps:
    """The answer of `device`'s NVDEC; a format that NVDEC has no name for counts as not supported.

    Raises:
        NvdecError: There is no CUDA device, or the driver's decoding library is missing or refuses.
    """
    chroma, bits = _PIXEL_FORMATS.get(pixel_format, (-1, 0))
    caps = _Caps(codec=_CODECS.get(codec, -1), chroma=chroma, bits_minus_8=max(bits - 8, 0))
    if caps.codec < 0 or chroma < 0:
        return DecoderCaps(
            is_supported=False, num_decoders=0, min_size=(0, 0), max_size=(0, 0), max_macroblocks=0
        )
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NvdecError(
            f"{_LIBRARY} is missing (in a container: NVIDIA_DRIVER_CAPABILITIES needs video)"
        ) from error
    with _context(device):
        status = library.cuvidGetDecoderCaps(ctypes.byref(caps))
    if status:
        raise NvdecError(f"cuvidGetDecoderCaps failed with CUDA error {status}")
    return DecoderCaps(
        is_supported=bool(caps.is_supported and caps.output_formats & _NV12),
        num_decoders=caps.num_decoders,
        min_size=(caps.min_height, caps.min_width),
        max_size=(caps.max_height, caps.max_width),
        max_macroblocks=caps.max_macroblocks,
    )


@contextmanager
def _context(device: torch.device) -> Iterator[None]:
    """Makes the CUDA context of the device current in this thread; NvdecError if there is none."""
    try:
        torch.zeros(1, device=device)  # creates it
    except (RuntimeError, AssertionError) as error:
        raise NvdecError(str(error).splitlines()[0]) from error
    with torch.cuda.device(device):
        yield


def check_decodable(
    manifest: Manifest, rows: np.ndarray, caps_of: Callable[[str, str], DecoderCaps]
) -> None:
    """Raises InputError if DALI and NVDEC do not take all of a manifest's `rows`.

    It warns of picture sizes that DALI decodes slowly.

    Args:
        manifest: The manifest of the shards.
        rows: (N,) int, the rows that will be served.
        caps_of: (codec, pixel format) -> what this GPU takes.
    """
    advice = "run `tb shard ... --recipe h264` into another folder, or choose the engine fused"
    codecs, formats = manifest.codecs[rows], manifest.pixel_formats[rows]
    for codec, pixel_format in sorted(set(zip(codecs.tolist(), formats.tolist(), strict=True))):
        chosen = rows[(codecs == codec) & (formats == pixel_format)]
        kind = f"in {codec} {pixel_format}"
        if codec not in GPU_CODECS:
            raise InputError(
                f"{manifest.where}: {counted(len(chosen), 'video')} {kind}, which DALI does not"
                f" decode on a GPU (it takes {', '.join(sorted(GPU_CODECS))}); {advice}"
            )
        caps = caps_of(codec, pixel_format)
        sizes = np.stack([manifest.heights[chosen], manifest.widths[chosen]], axis=1)
        kinds, counts = np.unique(sizes, axis=0, return_counts=True)
        refused = [not caps.takes(*size) for size in kinds.tolist()]
        if any(refused):
            height, width = kinds[refused][0]
            raise InputError(
                f"{manifest.where}: {counted(counts[refused].sum(), 'video')} {kind}, e.g. of "
                f"{width}x{height} px, are not for this GPU's video decoder ({caps}); {advice}"
            )
    _warn_of_new_decoders(manifest, rows)


def _warn_of_new_decoders(manifest: Manifest, rows: np.ndarray) -> None:
    sides = np.stack([manifest.heights[rows], manifest.widths[rows]], axis=1)
    uneven = (sides % _CODED_STEP_PX != 0).any(axis=1)
    if uneven.any():
        height, width = sides[uneven][0]
        _logger.warning(
            "%s: %d videos, e.g. of %dx%d px, have sides that are not multiples of %d; DALI opens "
            "a new decoder for each, by others' reports 50 to 70 ms a video; every recipe but copy "
            "avoids this",
            *(manifest.where, int(uneven.sum()), width, height, _CODED_STEP_PX),
        )
