"""Weights from files, and into files for others.

Files come in three kinds: this program's checkpoints, state dicts of the stock networks
(torchvision `r3d_18`, PyTorchVideo's resnets; `.pt`, `.pth` or `.safetensors`), and what
`export_weights` wrote, which has the stock network's names too. Nothing is unpickled.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from shards.errors import InputError
from shards.files.publish import publish_bytes
from tb.networks.models import Backbone, build_backbone
from tb.weights.checkpoint import (
    CHECKPOINT,
    file_digest,
    load_backbone,
    load_checkpoint,
)

SUFFIX = ".safetensors"
_TRUNK = "backbone.trunk."
# Under which published files keep their state dict; PyTorchVideo's use the first.
_WRAPPERS = ("model_state", "state_dict")
# Where a stock network of the same weights computes something else.
NOTES = {
    "r3d_18": "trained with layer4 keeping the time resolution (stride 1, dilation 2 in time): the "
    "stock network strides there, so it loads these weights and gives other outputs"
}


def load_pretrained(path: Path, backbone: Backbone, name: str) -> str:
    """Loads a backbone's weights out of any supported file, strictly.

    The file's head (classifier or projection) is left out, which is said where it is a stock one;
    anything else that is missing, unknown or of another shape is refused.

    Args:
        path: A checkpoint or export of this program, or a state dict of the stock network.
        backbone: Receives the weights.
        name: What it was built by.

    Returns:
        The file's hex sha256.

    Raises:
        InputError: The file is missing, unreadable, of an unfinished run, or of another network.
    """
    digest = file_digest(path)
    if path.suffix == SUFFIX:
        state = _read_safetensors(path, name)
    else:
        state = _read_torch(path)
        if "format" in state:
            load_backbone(path, backbone, name)
            return digest
    head = [key for key in state if key.startswith(f"{backbone.stock_head}.")]
    weights = {key: value for key, value in state.items() if key not in head}
    _check_fit(path, weights, backbone.trunk.state_dict(), name)
    backbone.trunk.load_state_dict(weights)
    if head:
        print(f"{path}: took the backbone and left out the classifier ({', '.join(head)})")
    return digest


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # rubbish can make the reader stumble in any way
        raise InputError(f"{path}: not a readable checkpoint; delete it, or give another") from None
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and wrapper in state:
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{path}: not a state dict; give a mapping from names to tensors")
    return state


def _read_safetensors(path: Path, name: str) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("backbone", name)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    if found != name:
        raise InputError(
            f"{path}: weights of backbone {found!r}, but this run uses {name!r}; give other"
            f" weights or --set backbone={found}"
        )
    return state


def _check_fit(path: Path, found: dict[str, Any], wanted: dict[str, Tensor], name: str) -> None:
    shapes = {key: list(value.shape) for key, value in found.items() if isinstance(value, Tensor)}
    both = [key for key in wanted if key in shapes]
    reshaped = [key for key in both if shapes[key] != list(wanted[key].shape)]
    problems = [
        (f"lacks {{}} of {len(wanted)} tensors", [key for key in wanted if key not in shapes]),
        ("has {} others", [key for key in found if key not in wanted]),
        ("has {} of another shape", reshaped),
    ]
    texts = [f"{text.format(len(keys))} ({keys[0]} ...)" for text, keys in problems if keys]
    if texts:
        raise InputError(
            f"{path}: not weights of backbone {name!r}: {', '.join(texts)}; give the state dict of "
            "the same network"
        )


def export_weights(run: Path, out: Path) -> dict[str, str]:
    """Writes a checkpoint's backbone, and its classifier if it has one, under the stock names.

    Stock PyTorchVideo (`slow_r50`, `create_resnet`) or torchvision (`r3d_18`), built with as many
    classes, loads the file with `strict=True`. A projection head has no place there and is left
    out; so is the training's state.

    Args:
        run: A stage's folder, or a checkpoint.
        out: The file to write, *.safetensors.

    Returns:
        The file's metadata: backbone, stage, classes (a JSON list, [] without a classifier), step,
        source (the checkpoint's hex sha256) and, where the stock network differs, note.

    Raises:
        InputError: There is no readable checkpoint, or `out` has another suffix.
    """
    if out.suffix != SUFFIX:
        raise InputError(f"{out}: name it *{SUFFIX}")
    path = run / CHECKPOINT if run.is_dir() else run
    state = load_checkpoint(path)
    name = state["backbone"]
    head = build_backbone(name).stock_head
    tensors = {
        _stock_name(key, head): value.contiguous()
        for key, value in state["model"].items()
        if key.startswith((_TRUNK, "fc."))
    }
    metadata = {
        "format": "pt",
        "backbone": name,
        "stage": state["stage"],
        "classes": json.dumps(state["classes"]),
        "step": str(state["step"]),
        "source": file_digest(path),
    }
    if name in NOTES:
        metadata["note"] = NOTES[name]
    publish_bytes(out, _sorted_header(save(tensors, metadata)))
    return metadata


def _sorted_header(file: bytes) -> bytes:
    """The same file with its metadata in order: the library writes them in a new one each time."""
    begin = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:begin])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants tensors at multiples of 8
    return len(text).to_bytes(8, "little") + text + file[begin:]


def _stock_name(key: str, head: str) -> str:
    if key.startswith(_TRUNK):
        return key.removeprefix(_TRUNK)
    return f"{head}.{key.removeprefix('fc.')}"
