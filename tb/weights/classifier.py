"""A trained classifier from a file, ready to use."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from shards.errors import InputError
from tb.networks.backbones import identified_backbone
from tb.networks.heads import Classifier, to_channels_last
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint
from tb.weights.export import SUFFIX, classifier_name


class TrainedClassifier(nn.Module):
    """A classifier in eval mode, which maps clips to probabilities.

    Attributes:
        network: The network, which gives logits.
        classes: K class names, in the order of the probabilities.
    """

    def __init__(self, network: Classifier, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.network = to_channels_last(network).requires_grad_(False)
        self.classes = classes
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where its weights are; clips must be there too."""
        return next(self.network.parameters()).device

    if TYPE_CHECKING:  # torch types calls of a module as Any

        def __call__(self, clips: Tensor) -> Tensor: ...

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """(N, 3, T, H, W) float32 RGB in [0, 1] -> (N, K) float32 probabilities, rows sum to 1."""
        probabilities: Tensor = self.network(clips).float().softmax(-1)
        return probabilities


def load_trained(path: Path) -> TrainedClassifier:
    """The classifier in a file, on the CPU.

    Args:
        path: A stage's folder, a checkpoint, or a file that `export_weights` wrote.

    Raises:
        InputError: The file is missing or not readable, or it holds no classifier.
    """
    if path.suffix == SUFFIX:
        return _load_export(path)
    checkpoint = path / CHECKPOINT if path.is_dir() else path
    state = load_checkpoint(checkpoint)
    return _classifier(checkpoint, state["backbone"], state["classes"], state["model"])


def _load_export(path: Path) -> TrainedClassifier:
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with `tb export`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    if not {"backbone", "classes"} <= metadata.keys():
        raise InputError(
            f"{path}: does not name its backbone and classes; make it with `tb export`"
        )
    identity, classes = metadata["backbone"], json.loads(metadata["classes"])
    head = identified_backbone(identity).stock_head
    weights = {classifier_name(key, head): value for key, value in tensors.items()}
    return _classifier(path, identity, classes, weights)


def _classifier(
    path: Path, identity: str, classes: list[str], weights: dict[str, Tensor]
) -> TrainedClassifier:
    if not classes:
        raise InputError(f"{path}: a self-supervised network without classes; fine-tune it first")
    network = Classifier(identified_backbone(identity), len(classes))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not the weights of its backbone ({reason})") from None
    return TrainedClassifier(network, tuple(classes))
