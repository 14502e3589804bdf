"""Samples the load of a GPU while something else runs, through NVML, the driver's library.

It is called through ctypes, because every driver brings the library but not its Python package.
"""

import ctypes
import statistics
import threading
from types import TracebackType
from typing import Self

import torch

_LIBRARY = "libnvidia-ml.so.1"
_PERIOD_S = 0.05


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class Nvml:
    """One device in NVML; raises OSError if there is no NVML."""

    def __init__(self, device: torch.device) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        self._handle = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        # It is found by its UUID, because NVML also counts devices that CUDA_VISIBLE_DEVICES hides.
        uuid = _uuid(device).encode()
        self._call("nvmlDeviceGetHandleByUUID", uuid, ctypes.byref(self._handle))

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise OSError(f"{name} failed with NVML error {status}")

    def driver(self) -> str:
        """The driver's version."""
        text = ctypes.create_string_buffer(96)
        self._call("nvmlSystemGetDriverVersion", text, ctypes.c_uint(len(text)))
        return text.value.decode()

    def sample(self) -> dict[str, float]:
        """decoder_percent, sm_percent and memory_mb at this moment."""
        decoder, period = ctypes.c_uint(), ctypes.c_uint()
        utilization, memory = _Utilization(), _Memory()
        self._call(
            "nvmlDeviceGetDecoderUtilization",
            self._handle,
            ctypes.byref(decoder),
            ctypes.byref(period),
        )
        self._call("nvmlDeviceGetUtilizationRates", self._handle, ctypes.byref(utilization))
        self._call("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory))
        return {
            "decoder_percent": float(decoder.value),
            "sm_percent": float(utilization.gpu),
            "memory_mb": memory.used / 2**20,
        }


def _uuid(device: torch.device) -> str:
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


class Meter:
    """Samples a device in a thread during a `with` block; a CPU has no figures.

    Attributes:
        figures: After the block: the mean and the largest value of each figure of `Nvml.sample`, or
            "meter_problem".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._samples: list[dict[str, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
        self.figures: dict[str, float | str] = {}

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.figures |= summary(self._samples)

    def mean(self, name: str) -> float | None:
        """The mean of one figure after the block; None if there is none."""
        value = self.figures.get(f"{name}_mean")
        return value if isinstance(value, float) else None

    def _watch(self) -> None:
        try:
            nvml = Nvml(self._device)
            while not self._over.wait(_PERIOD_S):
                self._samples.append(nvml.sample())
        except OSError as error:
            self.figures["meter_problem"] = str(error)


def summary(samples: list[dict[str, float]]) -> dict[str, float | str]:
    """The mean and the largest value of each figure; empty without samples."""
    figures: dict[str, float | str] = {}
    for name in samples[0] if samples else ():
        values = [sample[name] for sample in samples]
        figures[f"{name}_mean"] = round(statistics.fmean(values), 1)
        figures[f"{name}_max"] = round(max(values), 1)
    return figures
