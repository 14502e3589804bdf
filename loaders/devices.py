"""The device that batches end up on."""

import torch

from shards.errors import InputError


def usable_device(device: str) -> torch.device:
    """The device with this name; "auto" is the GPU if there is one, otherwise the CPU.

    The name of a GPU gets its number, because the current GPU may differ from thread to thread.

    Raises:
        InputError: The device cannot be used on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} is not usable here ({reason}): try cpu") from error
