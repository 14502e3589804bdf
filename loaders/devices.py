"""The device that batches end up on."""

import torch

from shards.errors import InputError


def named_device(name: str) -> torch.device:
    """The device with this name; "auto" is the GPU if there is one, otherwise the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def usable_device(device: str) -> torch.device:
    """The device with this name, as for `named_device`.

    The name of a GPU gets its number, because the current GPU may differ from thread to thread.

    Raises:
        InputError: The device cannot be used on this machine.
    """
    try:
        return torch.empty(0, device=named_device(device)).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} is not usable here ({reason}): try cpu") from error
