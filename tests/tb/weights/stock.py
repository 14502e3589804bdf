"""Stock networks and checkpoints to exchange weights with."""

import warnings
from pathlib import Path

import torch
from torch import nn

from tb.networks.heads import Classifier
from tb.weights.checkpoint import save_checkpoint

NUM_CLASSES = 5
NARROW = '{"stem_conv_kernel_size": [3, 5, 5], "stem_dim_out": 8}'  # an identity


def stock(name: str, num_classes: int = NUM_CLASSES) -> nn.Module:
    """The stock library's own network, in eval mode."""
    if name == "r3d_18":
        from torchvision.models.video import r3d_18

        return r3d_18(weights=None, num_classes=num_classes).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models.hub import slow_r50
        from pytorchvideo.models.resnet import create_resnet

        options = {"model_num_class": num_classes, "head_pool": nn.AdaptiveAvgPool3d}
        if name == "slow_r50":
            return slow_r50(pretrained=False, **options).eval()
        return create_resnet(**options, stem_dim_out=8, stem_conv_kernel_size=(3, 5, 5)).eval()


def settle(model: nn.Module) -> nn.Module:
    """The model with weights and running statistics as if trained: no two layers alike."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            is_scale = name.endswith(("running_var", "norm.weight", "1.weight"))
            value.copy_(0.5 + noise if is_scale else value + 0.05 * (noise - 0.5))
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
