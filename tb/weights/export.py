"""Writes trained weights for other programs: safetensors files with the stock networks' names."""

import json
from pathlib import Path

from safetensors.torch import save

from shards.errors import InputError
from shards.files.path_kinds import is_folder
from tb.named_paths import write_named_file
from tb.networks.backbones import identified_backbone
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint, run_settings_of
from tb.weights.classifier_input import ClassifierInput

SUFFIX = ".safetensors"
_TRUNK = "backbone.trunk."
_FC = "fc."
# Notes about stock networks that compute something else with the same weights.
_NOTES = {
    "r3d_18": "trained with layer4 keeping the time resolution (stride 1, dilation 2 in time): the "
    "stock network strides there, so it loads these weights and gives other outputs"
}


def export_weights(run: Path, out: Path) -> dict[str, str]:
    """Writes a checkpoint's backbone, and its classifier if it has one, under the stock names.

    The stock network of PyTorchVideo (`slow_r50`, `create_resnet`) or torchvision (`r3d_18`), built
    with as many classes, loads the file with `strict=True`. The stock network has no projection
    head, so the file has none either. The state of the training is left out too.

    Args:
        run: A stage's folder, or a checkpoint.
        out: The file to write, *.safetensors.

    Returns:
        The file's metadata: backbone, stage, classes (a JSON list, [] without a classifier), step,
        source (the checkpoint's hex sha256), input (JSON, see `ClassifierInput`) and, where the
        stock network differs, note.

    Raises:
        InputError: There is no readable checkpoint, or `out` has another suffix or
            cannot be written.
    """
    if out.suffix != SUFFIX:
        raise InputError(f"{out}: name it *{SUFFIX}")
    path = run / CHECKPOINT if is_folder(run) else run
    state = load_checkpoint(path)
    identity = state["backbone"]
    head = identified_backbone(identity).stock_head
    tensors = {
        _stock_name(key, head): value.contiguous()
        for key, value in state["model"].items()
        if key.startswith((_TRUNK, _FC))
    }
    metadata = {
        "format": "pt",
        "backbone": identity,
        "stage": state["stage"],
        "classes": json.dumps(state["classes"]),
        "step": str(state["step"]),
        "source": file_digest(path),
    }
    shown = ClassifierInput.of_checkpoint(path, run_settings_of(state))
    if shown is not None:
        metadata["input"] = shown.to_json()
    if identity in _NOTES:
        metadata["note"] = _NOTES[identity]
    write_named_file(out, _sorted_header(save(tensors, metadata)), "out")
    return metadata


def _sorted_header(file: bytes) -> bytes:
    """The same file with its metadata sorted, because the library writes them in any order."""
    begin = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:begin])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # in the format, tensors begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + file[begin:]


def _stock_name(key: str, head: str) -> str:
    """The stock network's name of a weight of our classifier, whose last layer is `head` there."""
    if key.startswith(_TRUNK):
        return key.removeprefix(_TRUNK)
    return f"{head}.{key.removeprefix(_FC)}"


def classifier_name(key: str, head: str) -> str:
    """Our classifier's name of a weight of the stock network, whose last layer is `head`."""
    if key.startswith(f"{head}."):
        return f"{_FC}{key.removeprefix(f'{head}.')}"
    return f"{_TRUNK}{key}"
