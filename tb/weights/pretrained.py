"""Loads weights from a file into a backbone.

The file is a checkpoint of this program, an export of it, or a state dict of the stock network
(torchvision's `r3d_18`, PyTorchVideo's resnets) as `.pt`, `.pth` or `.safetensors`.
"""

import logging
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loaders.plan.normalization import (
    Normalization,
    named_normalization,
    normalization_name,
)
from shards.errors import InputError
from tb.networks.backbones import Backbone
from tb.weights.checkpoint import check_input, file_digest, is_checkpoint, load_backbone
from tb.weights.classifier_input import ClassifierInput
from tb.weights.export import SUFFIX

logger = logging.getLogger(__name__)

# The keys under which published files keep their state dict. PyTorchVideo's use the first.
_WRAPPERS = ("model_state", "state_dict")


def load_pretrained(path: Path, backbone: Backbone, normalization: Normalization | None) -> str:
    """Loads a backbone's weights out of any supported file, strictly.

    The file's head (classifier or projection) is left out; the log says so, except for checkpoints.
    Anything else that is missing, unknown or of another shape is refused. Files of this program
    record the normalization of their input, and another normalization is refused. Other files do
    not record it, so the log warns if published weights expect another normalization.

    Args:
        path: A checkpoint or export of this program, or a state dict of the stock network.
        backbone: Receives the weights.
        normalization: The normalization of the clips that the backbone will see.

    Returns:
        The file's hex sha256.

    Raises:
        InputError: The file is missing, unreadable, of an unfinished run, of another network, or
            of other input.
    """
    digest = file_digest(path)
    if path.suffix == SUFFIX:
        state, is_stock = _read_safetensors(path, backbone, normalization)
    else:
        state, is_stock = _read_torch(path), True
        if is_checkpoint(state):
            load_backbone(path, state, backbone, normalization)
            return digest
    head = [key for key in state if key.startswith(f"{backbone.stock_head}.")]
    weights = {key: value for key, value in state.items() if key not in head}
    _check_fit(path, weights, backbone)
    backbone.trunk.load_state_dict(weights)
    if head:
        logger.info("%s: took the backbone and left out the classifier (%s)", path, ", ".join(head))
    if is_stock:
        _tell_expected_input(path, backbone, normalization)
    return digest


def _tell_expected_input(
    path: Path, backbone: Backbone, normalization: Normalization | None
) -> None:
    expected = backbone.stock_input
    if named_normalization(expected) != normalization:
        logger.warning(
            "%s: published weights of this network expect normalization %s, but this run's is %s;"
            " --set normalization=%s",
            path,
            expected,
            normalization_name(normalization),
            expected,
        )


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise anything
        raise InputError(f"{path}: not a readable checkpoint; delete it, or give another") from None
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and wrapper in state:
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{path}: not a state dict; give a mapping from names to tensors")
    return state


def _read_safetensors(
    path: Path, backbone: Backbone, normalization: Normalization | None
) -> tuple[dict[str, Any], bool]:
    """The tensors, and whether the file is from another program than `tb export`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    found = metadata.get("backbone", backbone.identity)
    if found != backbone.identity:
        setting = shlex.quote(f"backbone={found}")
        raise InputError(
            f"{path}: weights of backbone {found!r}, but this run uses {backbone.identity!r}; give"
            f" other weights or --set {setting}"
        )
    is_stock = "backbone" not in metadata
    if not is_stock and "input" in metadata:
        shown = ClassifierInput.of_json(metadata["input"], path)
        check_input(path, asdict(shown), normalization)
    return state, is_stock


def _check_fit(path: Path, found: dict[str, Any], backbone: Backbone) -> None:
    wanted = backbone.trunk.state_dict()
    shapes = {key: list(value.shape) for key, value in found.items() if isinstance(value, Tensor)}
    both = [key for key in wanted if key in shapes]
    reshaped = [key for key in both if shapes[key] != list(wanted[key].shape)]
    problems = [
        (f"lacks {{}} of {len(wanted)} tensors", [key for key in wanted if key not in shapes]),
        ("has {} more", [key for key in found if key not in wanted]),
        ("has {} of another shape", reshaped),
    ]
    texts = [f"{text.format(len(keys))} ({keys[0]} ...)" for text, keys in problems if keys]
    if texts:
        raise InputError(
            f"{path}: not weights of backbone {backbone.identity!r}: {', '.join(texts)}; "
            "give the state dict of the same network"
        )
