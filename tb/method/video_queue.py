"""The queue of earlier videos, whose embeddings are further negatives of L_I."""

import torch
from torch import Tensor, nn

from tb.losses import EarlierVideos
from tb.networks.backbones import NUM_SLICES
from tb.networks.heads import EMBEDDING_DIM


class VideoQueue(nn.Module):
    """The last videos that a teacher in training has seen, first in, first out.

    So the number of negatives does not depend on the batch size, as in MoCo (He et al., CVPR 2020).
    The embeddings are those that the network in training had at the time (cross-batch memory, Wang
    et al., CVPR 2020). MoCo's second, slower network would cost a second forward pass of all views.

    Attributes:
        rows: (Q,) int64 rows of the manifest, -1 for an empty place or a bad video.
        long: (Q, 2, D) float32 embeddings of the long clips.
        short: (Q, 2, C, D) float32 embeddings of the short clips.
    """

    rows: Tensor
    long: Tensor
    short: Tensor

    def __init__(self, num_videos: int) -> None:
        """Makes an empty queue for `num_videos` videos, at least one."""
        super().__init__()
        self.register_buffer("rows", torch.full((num_videos,), -1))
        self.register_buffer("long", torch.zeros(num_videos, 2, EMBEDDING_DIM))
        self.register_buffer("short", torch.zeros(num_videos, 2, NUM_SLICES, EMBEDDING_DIM))

    def negatives(self, rows: Tensor) -> EarlierVideos:
        """The queue as negatives of some videos; a video is not a negative of itself.

        Args:
            rows: (B,) int64 rows of the manifest.
        """
        others = (self.rows >= 0) & (self.rows != rows[:, None])
        return EarlierVideos(long=self.long, short=self.short, others=others)

    @torch.no_grad()
    def push(self, rows: Tensor, long: Tensor, short: Tensor) -> None:
        """Adds the videos of a batch and drops the oldest ones.

        Args:
            rows: (B,) int64 rows of the manifest, -1 for a bad video.
            long: (B, 2, D) float32.
            short: (B, 2, C, D) float32.
        """
        num = len(self.rows)
        self.rows = torch.cat([rows, self.rows])[:num]
        self.long = torch.cat([long, self.long])[:num]
        self.short = torch.cat([short, self.short])[:num]
