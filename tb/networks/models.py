"""Backbones, the projection head and the two networks built from them.

Every backbone maps (N, 3, T, H, W) to (N, C, 4, 1, 1): four temporal slices. The pooled feature is
their mean, so a pooled and an unpooled embedding come from one forward pass.

A trunk keeps the parameter names of the library it comes from, so `tb.weights` exchanges weights with
stock models without a table of names.
"""

import ast
import difflib
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shards.errors import InputError

NUM_SLICES = 4
EMBEDDING_DIM = 128
HIDDEN_DIM = 512


class Backbone(nn.Module):
    """A trunk and the pool to four temporal slices.

    Attributes:
        feature_dim: C.
        stock_head: Name of the linear layer that the stock network has after this trunk.
    """

    def __init__(self, trunk: nn.Module, feature_dim: int, stock_head: str) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.stock_head = stock_head
        self.trunk = trunk
        self.pool = nn.AdaptiveAvgPool3d((NUM_SLICES, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """(N, 3, T, H, W) in [0, 1] -> (N, C, 4, 1, 1)."""
        features: Tensor = self.pool(self.trunk(clips))
        return features


def _pytorchvideo_resnet() -> Callable[..., Any]:
    with warnings.catch_warnings():
        # Its dependencies warn at import about calls of their own (torch.jit, pkg_resources).
        warnings.simplefilter("ignore")
        from pytorchvideo.models.resnet import create_resnet

        builder: Callable[..., Any] = create_resnet
        return builder


def _resnet(*, stem_dim_out: int = 64, **options: Any) -> Backbone:
    trunk = _pytorchvideo_resnet()(head=None, stem_dim_out=stem_dim_out, **options)
    for module in trunk.modules():
        if isinstance(module, nn.Conv3d):
            # Some are NumPy's integers, with which torch.compile takes the graph for a dynamic one.
            module.stride = tuple(map(int, module.stride))
    # Four stages: the first is 4 times as wide as the stem, each other twice as wide as the last.
    return Backbone(trunk, stem_dim_out * 32, f"blocks.{len(trunk.blocks)}.proj")


def _slow_r50() -> Backbone:
    return _resnet(model_depth=50, stem_conv_kernel_size=(1, 7, 7))


class _SpatialStride(nn.Conv3d):
    """3 x 3 x 3, every time step kept; a `conv_builder` for torchvision's blocks."""

    def __init__(self, dim_in: int, dim_out: int, _middle: int, stride: int = 1) -> None:
        super().__init__(dim_in, dim_out, 3, stride=(1, stride, stride), padding=1, bias=False)


def _small() -> Backbone:
    """A 3D-ResNet-8 with a stem of 8 channels, for clips of 32 px: learns in a minute on a laptop.

    Seven 3D convolutions from end to end. No library has one like it: its weights keep their names.
    """
    from torchvision.models.video.resnet import BasicBlock

    def stage(dim_in: int, dim_out: int, stride: int) -> nn.Module:
        shortcut = None
        if stride > 1:
            shortcut = nn.Sequential(
                nn.Conv3d(dim_in, dim_out, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(dim_out),
            )
        block: nn.Module = BasicBlock(dim_in, dim_out, _SpatialStride, stride, shortcut)
        return block

    width = 8
    stem = nn.Sequential(
        nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    )
    parts = {
        "stem": stem,
        "layer1": stage(width, width, 1),
        "layer2": stage(width, 2 * width, 2),
        "layer3": stage(2 * width, 4 * width, 2),
    }
    return Backbone(nn.Sequential(OrderedDict(parts)), 4 * width, "fc")


def _r3d_18() -> Backbone:
    from torchvision.models.video import r3d_18

    net = r3d_18()
    # Keep 4 time steps of 16 frames: the last stage strides in space only and dilates in time.
    block = net.layer4[0]
    first = block.conv1[0]
    first.stride, first.dilation, first.padding = (1, 2, 2), (2, 1, 1), (2, 1, 1)
    block.downsample[0].stride = (1, 2, 2)
    names = ("stem", "layer1", "layer2", "layer3", "layer4")
    trunk = nn.Sequential(OrderedDict((name, net.get_submodule(name)) for name in names))
    return Backbone(trunk, 512, "fc")


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "slow_r50": _slow_r50,
    "r3d_18": _r3d_18,
    "small": _small,
}
CALL = "create_resnet"
# Of PyTorchVideo's builder, but not of a trunk, or not to be written down in a line.
_CLOSED_OPTIONS = ("input_channel", "model_num_class", "dropout_rate", "stem", "bottleneck")


def build_backbone(name: str) -> Backbone:
    """An untrained backbone.

    Args:
        name: One of `BACKBONES`, or a call of PyTorchVideo's builder with options of its trunk, as
            "create_resnet(model_depth=101, stem_dim_out=32, stage1_pool='MaxPool3d')": numbers,
            tuples, and classes of torch.nn as quoted names.

    Raises:
        InputError: There is none of that name, or an option is unknown or unusable.
    """
    if name in BACKBONES:
        return BACKBONES[name]()
    if not name.startswith(CALL):
        raise InputError(
            f"no backbone {name!r}: choose one of {', '.join(BACKBONES)}, {CALL}(OPTION=VALUE, ...)"
        )
    options = _parse_options(name)
    try:
        return _resnet(**options)
    except (AssertionError, TypeError, ValueError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"backbone {name!r}: PyTorchVideo cannot build it ({reason})") from error


def _parse_options(call: str) -> dict[str, Any]:
    """The keyword arguments in the text of a call, classes of torch.nn looked up."""
    try:
        node = ast.parse(call, mode="eval").body
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != CALL or node.args:
            raise ValueError(call)
        options = {item.arg or "**": ast.literal_eval(item.value) for item in node.keywords}
    except (SyntaxError, ValueError, TypeError):
        raise InputError(
            f"backbone {call!r}: write it as {CALL}(OPTION=VALUE, ...), each value a number, a "
            "tuple, or the name of a torch.nn class in quotes"
        ) from None
    known = [
        name
        for name in inspect.signature(_pytorchvideo_resnet()).parameters
        if name not in _CLOSED_OPTIONS and not name.startswith("head")
    ]
    for name, value in options.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"
            raise InputError(f"backbone {call!r}: no option {name!r}; {hint}")
        if isinstance(value, str):
            options[name] = getattr(nn, value, None)
            if not isinstance(options[name], type):
                raise InputError(f"backbone {call!r}: torch.nn has no class {value!r}")
    return options


class ProjectionHead(nn.Sequential):
    """Linear -> BN -> ReLU -> Linear -> BN (supplement B.1.2), then L2 normalisation."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__(
            nn.Linear(feature_dim, HIDDEN_DIM),
            nn.BatchNorm1d(HIDDEN_DIM),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN_DIM, EMBEDDING_DIM, bias=False),
            nn.BatchNorm1d(EMBEDDING_DIM),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C) -> (N, 128), unit length."""
        embedding: Tensor = super().forward(features)  # type: ignore[no-untyped-call]
        return nn.functional.normalize(embedding.float(), dim=-1)


class Embedder(nn.Module):
    """A self-supervised teacher: backbone and projection head."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ProjectionHead(backbone.feature_dim)

    def forward(self, clips: Tensor) -> Tensor:
        """(N, 3, T, H, W) -> (N, 128), unit length."""
        return self.pooled(self.backbone(clips))

    def pooled(self, features: Tensor) -> Tensor:
        """The backbone's (N, C, 4, 1, 1) -> (N, 128)."""
        embedding: Tensor = self.head(features.mean(dim=(2, 3, 4)))
        return embedding

    def slices(self, features: Tensor) -> Tensor:
        """The backbone's (N, C, 4, 1, 1) -> (N, 4, 128), by the same head, in order of time."""
        rows = features.flatten(2).transpose(1, 2)  # (N, 4, C)
        embedding: Tensor = self.head(rows.flatten(0, 1))
        return embedding.view(len(features), NUM_SLICES, -1)


class Classifier(nn.Module):
    """A backbone, dropout and a linear layer over the pooled feature."""

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(backbone.feature_dim, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """(N, 3, T, H, W) -> (N, K) logits."""
        logits: Tensor = self.fc(self.dropout(self.backbone(clips).mean(dim=(2, 3, 4))))
        return logits


def to_channels_last(model: nn.Module) -> nn.Module:
    """The model with its 5-d weights in channels_last_3d, the layout that batches come in."""
    return model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]
