"""Stock networks and checkpoints to exchange weights with."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from tb.networks.heads import Classifier
from tb.weights.checkpoint import save_checkpoint

NUM_CLASSES = 5
NARROW = '{"stem_conv_kernel_size": [3, 5, 5], "stem_dim_out": 8}'  # an identity


Network = TypeVar("Network", bound=nn.Module)


def without_values(build: Callable[[], Network]) -> Network:
    """A network with weights of any value: to draw values takes longer than to replace them."""
    with torch.device("meta"):
        model = build()
    return model.to_empty(device="cpu")


def stock(name: str, num_classes: int = NUM_CLASSES) -> nn.Module:
    """The stock library's own network, in eval mode, with weights of any value."""
    return without_values(lambda: _stock(name, num_classes)).eval()


def _stock(name: str, num_classes: int) -> nn.Module:
    if name == "r3d_18":
        from torchvision.models.video import r3d_18

        return r3d_18(weights=None, num_classes=num_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models.hub import slow_r50
        from pytorchvideo.models.resnet import create_resnet

        options = {"model_num_class": num_classes, "head_pool": nn.AdaptiveAvgPool3d}
        if name == "slow_r50":
            return slow_r50(pretrained=False, **options)
        return create_resnet(**options, stem_dim_out=8, stem_conv_kernel_size=(3, 5, 5))


def settle(model: nn.Module) -> nn.Module:
    """The model with weights and running statistics as if trained: no two layers alike."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.ndim > 1:  # He's rule, so that the size of activations stays
            bound = (6 / value[0].numel()) ** 0.5
            value.uniform_(-bound, bound, generator=generator)
        elif value.is_floating_point():
            is_scale = name.endswith(("running_var", "norm.weight", "1.weight"))
            low, high = (0.5, 1.5) if is_scale else (-0.025, 0.025)
            value.uniform_(low, high, generator=generator)
        else:
            value.fill_(7)  # the number of batches
    return model.eval()


def write_checkpoint(path: Path, model: nn.Module, name: str, **changes: object) -> None:
    classes = [f"class {index}" for index in range(NUM_CLASSES)]
    state = {
        "stage": "student",
        "backbone": name,
        "classes": classes if isinstance(model, Classifier) else [],
        "step": 7,
        "steps": 7,
        "model": model.state_dict(),
    }
    save_checkpoint(path, {**state, **changes})
