"""Backbones, the projection head and the two networks built from them.

Every backbone maps (N, 3, T, H, W) to (N, C, 4, 1, 1): four temporal slices. The pooled feature is
their mean, so a pooled and an unpooled embedding come from one forward pass.
"""

import warnings
from collections.abc import Callable

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
    """

    def __init__(self, trunk: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.trunk = trunk
        self.pool = nn.AdaptiveAvgPool3d((NUM_SLICES, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """(N, 3, T, H, W) in [0, 1] -> (N, C, 4, 1, 1)."""
        features: Tensor = self.pool(self.trunk(clips))
        return features


def _create_resnet(**options: object) -> nn.Module:
    with warnings.catch_warnings():
        # Its dependencies warn at import about calls of their own (torch.jit, pkg_resources).
        warnings.simplefilter("ignore")
        from pytorchvideo.models.resnet import create_resnet

        net: nn.Module = create_resnet(head=None, **options)
        return net


def _slow_r50() -> Backbone:
    return Backbone(_create_resnet(model_depth=50), 2048)


def _small() -> Backbone:
    """A 3D-ResNet-50 with a stem of 8 channels: sees motion from the stem on, runs on a laptop."""
    width = 8
    trunk = _create_resnet(
        model_depth=50,
        stem_dim_out=width,
        stem_conv_kernel_size=(3, 5, 5),
        stage_conv_a_kernel_size=((3, 1, 1),) * 4,
    )
    return Backbone(trunk, width * 32)


def _r3d_18() -> Backbone:
    from torchvision.models.video import r3d_18

    net = r3d_18()
    # Keep 4 time steps of 16 frames: the last stage strides in space only and dilates in time.
    block = net.layer4[0]
    first = block.conv1[0]
    first.stride, first.dilation, first.padding = (1, 2, 2), (2, 1, 1), (2, 1, 1)
    block.downsample[0].stride = (1, 2, 2)
    trunk = nn.Sequential(net.stem, net.layer1, net.layer2, net.layer3, net.layer4)
    return Backbone(trunk, 512)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "slow_r50": _slow_r50,
    "r3d_18": _r3d_18,
    "small": _small,
}


def build_backbone(name: str) -> Backbone:
    """An untrained backbone; InputError where the name is unknown."""
    if name not in BACKBONES:
        raise InputError(f"no backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]()


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
