"""The temporal similarity s of a video."""

import torch
from torch import Tensor


def temporal_similarity(clips_invariant: Tensor, clips_distinctive: Tensor) -> Tensor:
    """The mean cosine of all pairs of a video's clips, averaged over both teachers.

    C_I and C_D are the C x C cosine matrices of a video's clips under each self-supervised
    teacher. s is the mean of the off-diagonal entries of (C_I + C_D) / 2, limited to [0, 1]. The
    paper states the matrices; the mean and the limits are this project's reading.

    Args:
        clips_invariant: (B, C, D) L2-normalised embeddings of C consecutive clips by the
            invariant teacher (C = 4).
        clips_distinctive: (B, C, D) the same clips' embeddings by the distinctive teacher.

    Returns:
        (B,) s of each video, in [0, 1].
    """
    matrix = (_cosines(clips_invariant) + _cosines(clips_distinctive)) / 2
    num_clips = matrix.shape[-1]
    off_diagonal = matrix.sum(dim=(1, 2)) - matrix.diagonal(dim1=1, dim2=2).sum(-1)
    return (off_diagonal / (num_clips * (num_clips - 1))).clamp(0, 1)


def _cosines(clips: Tensor) -> Tensor:
    return torch.einsum("bcd,bed->bce", clips, clips)
