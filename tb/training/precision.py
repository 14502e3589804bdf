"""The number format of forward and backward passes."""

from enum import StrEnum

import torch

from tb.config.sections import Amp, Machine


class Precision(StrEnum):
    """The number format on a device, after "auto" is resolved."""

    OFF = "off"
    BF16 = "bf16"
    FP16 = "fp16"

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of a forward pass."""
        dtype = torch.float16 if self is Precision.FP16 else torch.bfloat16
        return torch.autocast(device.type, dtype, enabled=self is not Precision.OFF)

    @property
    def scales_loss(self) -> bool:
        """Whether the loss is scaled, because small gradients would be zero in this format."""
        return self is Precision.FP16

    @property
    def loader_dtype(self) -> str:
        """The loaders' dtype. Under autocast, float16 is enough, and half as many bytes move."""
        return "float32" if self is Precision.OFF else "float16"


def precision_of(machine: Machine, device: torch.device) -> Precision:
    """The precision on a device under `machine.amp`."""
    if machine.amp != Amp.AUTO:
        return Precision(machine.amp)
    if device.type != "cuda":
        return Precision.OFF
    # Older GPUs emulate bfloat16, which is slow.
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Precision.BF16 if has_bf16 else Precision.FP16
