"""How a training step can be computed, and how fast a GPU could be at most."""

from dataclasses import dataclass, replace

import torch

# Dense bfloat16 (V100: float16) operations per second, by a part of the device's name.
PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "V100": 125e12,
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a step is computed.

    Attributes:
        name: Its name in the table.
        channels_last: Weights and clips in channels_last_3d, else contiguous.
        amp: "off", "bf16" or "fp16".
        compiled: The backbone goes through torch.compile.
        together: One forward per kind of view; otherwise one per view and per stream.
        loader: Batches come from the real loader.
    """

    name: str
    amp: str
    channels_last: bool = True
    compiled: bool = False
    together: bool = True
    loader: bool = False


def variants(device: torch.device, stage: str, *, shards: bool, compiled: bool) -> list[Variant]:
    """The variants to compare on a device, "ours" first."""
    on_gpu = device.type == "cuda"
    ours = Variant(name="ours", amp="bf16" if on_gpu else "off", compiled=on_gpu)
    found = [
        ours,
        replace(
            ours,
            name="plain",
            amp="fp16" if on_gpu else "off",
            channels_last=False,
            compiled=False,
            together=False,
        ),
        replace(ours, name="contiguous", channels_last=False),
    ]
    if stage != "finetune":  # it has one view of one stream
        found.append(replace(ours, name="forwards apart", together=False))
    if on_gpu:
        found.append(replace(ours, name="eager", compiled=False))
        found.append(replace(ours, name="fp32", amp="off"))
    else:
        found.append(replace(ours, name="bf16", amp="bf16"))
    found.append(replace(ours, name="fp16", amp="fp16"))
    if compiled and not on_gpu:
        found.append(replace(ours, name="compiled", compiled=True))
    if shards:
        found.append(replace(ours, name="loader", loader=True))
    return found


def peak_flops(device: torch.device) -> float | None:
    """The most operations per second that a GPU can do, None if it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    # The longest of the names that fit: "H100 PCIe" before "H100".
    fitting = sorted((part for part in PEAKS if part in name), key=len)
    return PEAKS[fitting[-1]] if fitting else None
