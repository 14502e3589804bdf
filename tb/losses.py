"""The method's losses, as plain functions of embeddings and logits.

All embeddings are L2-normalised along the last axis; D is 128 in the paper. Similarity is the dot
product divided by the temperature. Sources: TimeBalance (Dave et al., CVPR 2023) and TCLR (Dave et
al., CVIU 2022); where the paper leaves a reduction open, the docstring says what is done here.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Reduction = Literal["mean", "sum"]
Distance = Literal["l2", "kl", "js"]


def nt_xent(u: Tensor, v: Tensor, temperature: float = 0.1) -> Tensor:
    """NTX(U, V): mean over the 2N anchors of the normalised-temperature cross entropy.

    With R = [V; U], anchor a's positive is its partner in the other half and its negatives are the
    other 2N - 2 rows: -log(exp(r_a . r_p / t) / sum_{k != a} exp(r_a . r_k / t)).

    Args:
        u: (N, D) normalised; extra leading axes are batches of independent problems, averaged.
        v: Same shape as `u`.
        temperature: t.
    """
    return _nt_xent(u, v, temperature).mean()


def _nt_xent(u: Tensor, v: Tensor, temperature: float) -> Tensor:
    """(..., N, D) x 2 -> (...): one value per leading index."""
    rows = torch.cat([v, u], dim=-2)
    num = u.shape[-2]
    logits = rows @ rows.transpose(-1, -2) / temperature
    itself = torch.eye(2 * num, dtype=torch.bool, device=u.device)
    logits = logits.masked_fill(itself, float("-inf"))
    positive = (u * v).sum(-1) / temperature
    return logits.logsumexp(-1).mean(-1) - positive.mean(-1)


def invariant_loss(long: Tensor, short: Tensor, temperature: float = 0.1) -> Tensor:
    """L_I: clips of one video agree whatever their time; other videos are the negatives.

    NTX(G0, G1) + 1/4 sum NTX(S_c^i, S_c'^j) over the ordered pairs (i, c) != (j, c'). The sum is
    divided by the number of short clips (4), not by its 56 terms, as in the released code.

    Args:
        long: (B, 2, D) the two augmentations of the long clip.
        short: (B, 2, C, D) the two augmentations of the C short clips (C = 4).
        temperature: t.
    """
    num_clips = short.shape[2]
    views = short.flatten(1, 2).transpose(0, 1)  # (2C, B, D)
    pairs = torch.combinations(torch.arange(len(views), device=short.device))
    # NTX is symmetric in its arguments: each unordered pair stands for two ordered ones.
    among_short = 2 * _nt_xent(views[pairs[:, 0]], views[pairs[:, 1]], temperature).sum()
    return nt_xent(long[:, 0], long[:, 1], temperature) + among_short / num_clips


def distinctive_pooled_loss(
    short: Tensor, temperature: float = 0.1, reduction: Reduction = "mean"
) -> Tensor:
    """L_D1: within each video, the same time in the other augmentation against all other times.

    NTX(S0[b], S1[b]) for each video b; nothing crosses videos. Chance value ln(2C - 1) (ln 7).

    Args:
        short: (B, 2, C, D).
        temperature: t.
        reduction: "mean" over the batch (ours), or "sum" as in the released code, which makes the
            term grow with the batch size.
    """
    per_video = _nt_xent(short[:, 0], short[:, 1], temperature)
    return per_video.mean() if reduction == "mean" else per_video.sum()


def distinctive_unpooled_loss(slices: Tensor, short: Tensor, temperature: float = 0.1) -> Tensor:
    """L_D2: each temporal slice of the long clip matches the short clip of the same time.

    With M = U_b^i (S_b^j)^T / t, the sum over the four (i, j) of the mean over videos of
    1/2 sum_t [CE(row t of M, t) + CE(column t of M, t)]. Chance value 4 C ln C (16 ln 4).

    Args:
        slices: (B, 2, C, D) temporal slices of the long clip's unpooled feature map, embedded.
        short: (B, 2, C, D) the short clips.
        temperature: t.
    """
    logits = torch.einsum("bitd,bjsd->bijts", slices, short) / temperature
    aligned = logits.diagonal(dim1=-2, dim2=-1)
    by_row = logits.logsumexp(-1) - aligned
    by_column = logits.logsumexp(-2) - aligned
    return (by_row + by_column).sum(dim=(1, 2, 3)).mean() / 2


def distillation_loss(
    student_logits: Tensor, teacher_probs: Tensor, kind: Distance = "l2"
) -> Tensor:
    """L_unsup: mean over the batch of the distance between p_S = softmax(logits) and p_T.

    Args:
        student_logits: (B, K).
        teacher_probs: (B, K), rows sum to 1; no gradient flows into it.
        kind: "l2": sum_k (p_S - p_T)^2; "kl": KL(p_T || p_S); "js": the Jensen-Shannon divergence.
            Natural logarithm.

    Raises:
        ValueError: `kind` is none of these.
    """
    target = teacher_probs.detach()
    log_student = student_logits.log_softmax(-1)
    student = log_student.exp()
    if kind == "l2":
        distance: Tensor = (student - target) ** 2
        return distance.sum(-1).mean()
    if kind == "kl":
        return functional.kl_div(log_student, target, reduction="batchmean")
    if kind == "js":
        middle = ((student + target) / 2).clamp_min(torch.finfo(student.dtype).tiny)
        # p log p through the logarithm at hand: its gradient stays finite where p underflows.
        entropies = student * log_student + torch.special.xlogy(target, target)
        divergence: Tensor = entropies / 2 - middle * middle.log()
        return divergence.sum(-1).mean()
    raise ValueError(f"kind is {kind!r}: choose l2, kl or js")


def mix_teachers(invariant: Tensor, distinctive: Tensor, similarity: Tensor) -> Tensor:
    """p_T = s p_I + (1 - s) p_D: similar clips trust the invariant teacher.

    Args:
        invariant: (B, K) probabilities.
        distinctive: (B, K) probabilities.
        similarity: (B,) in [0, 1].
    """
    weight = similarity[:, None].to(invariant.dtype)
    return weight * invariant + (1 - weight) * distinctive
