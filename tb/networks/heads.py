"""The projection head, and the two networks on a backbone: `Embedder` and `Classifier`."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from tb.networks.backbones import NUM_SLICES, Backbone

EMBEDDING_DIM = 128
HIDDEN_DIM = 512
Network = TypeVar("Network", bound=nn.Module)


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
    """A self-supervised teacher: a backbone and the projection head."""

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
        """The backbone's (N, C, 4, 1, 1) -> (N, 4, 128) in order of time, by the same head."""
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


def to_channels_last(model: Network) -> Network:
    """The model with its 5-d weights in channels_last_3d, the layout that batches come in."""
    return model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]
