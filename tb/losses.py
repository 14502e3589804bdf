"""The method's losses, as plain functions of embeddings and logits.

All embeddings are L2-normalised along the last axis; D is 128 in the paper. Similarity is the dot
product divided by the temperature. Sources: TimeBalance (Dave et al., CVPR 2023) and TCLR (Dave et
al., CVIU 2022). Where the paper leaves a reduction open, the docstring says what is done here.

A batch may hold bad videos, which do not count. Every loss takes `weights`, (N,) float: 0 for a bad
video, and the same value for all good ones, chosen so that the mean of the weights is 1. The
weighted mean over all videos is then the mean over the good ones. None: all videos are good.
"""

from typing import NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional

from tb.stage_kinds import Distance, Reduction


class EarlierVideos(NamedTuple):
    """Q videos of earlier batches, as further negatives of L_I.

    Attributes:
        long: (Q, 2, D) as in `invariant_loss`; no gradient flows into them.
        short: (Q, 2, C, D) as in `invariant_loss`; no gradient flows into them.
        others: (B, Q) bool: whether an earlier video is a negative of a video of the batch.
    """

    long: Tensor
    short: Tensor
    others: Tensor


class Further(NamedTuple):
    """Rows that are negatives only.

    Attributes:
        rows: (..., M, D) normalised.
        counts: (2N, M) bool: whether a row is a negative of an anchor.
    """

    rows: Tensor
    counts: Tensor


def nt_xent(
    u: Tensor,
    v: Tensor,
    temperature: float,
    weights: Tensor | None = None,
    videos: Tensor | None = None,
    further: Further | None = None,
) -> Tensor:
    """NTX(U, V): mean over the 2N anchors of the normalised-temperature cross entropy.

    With R = [V; U], anchor a's positive is its partner in the other half and its negatives are the
    other 2N - 2 rows: -log(exp(r_a . r_p / t) / sum_{k != a} exp(r_a . r_k / t)).

    Args:
        u: (..., N, D) normalised. The leading axes are independent problems.
        v: The same shape as `u`.
        temperature: The t of the formula, above 0.
        weights: (N,) The weights of the rows. A row of weight 0 is no anchor and no negative.
        videos: (N,) Numbers of the videos that the rows are from. Rows of one video are no
            negatives of each other. None: each row is from a video of its own.
        further: Rows that are negatives only.

    Returns:
        (...): a value for each problem.
    """
    rows = torch.cat([v, u], dim=-2)
    num = u.shape[-2]
    logits = rows @ rows.transpose(-1, -2) / temperature
    left_out = torch.eye(2 * num, dtype=torch.bool, device=u.device)  # no row is its own negative
    both = None if weights is None else weights.repeat(2)
    if both is not None:
        left_out = left_out | (both == 0)
    if videos is not None:
        same = videos[:, None] == videos
        same.fill_diagonal_(False)  # a row's partner is its positive
        if weights is not None:
            # An anchor of weight 0 keeps these rows: it may have no others, and 0 * -inf is NaN.
            same &= weights[:, None] != 0
        left_out = left_out | same.repeat(2, 2)
    logits = logits.masked_fill(left_out, float("-inf"))
    if further is not None:
        more = rows @ further.rows.transpose(-1, -2) / temperature
        logits = torch.cat([logits, more.masked_fill(~further.counts, -torch.inf)], dim=-1)
    positive = (u * v).sum(-1) / temperature
    anchors = _weighted(logits.logsumexp(-1), both)
    return anchors.mean(-1) - _weighted(positive, weights).mean(-1)


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    """(..., N) values, each times the weight of its row."""
    return values if weights is None else values * weights


def invariant_loss(
    long: Tensor,
    short: Tensor,
    temperature: float = 0.1,
    weights: Tensor | None = None,
    videos: Tensor | None = None,
    earlier: EarlierVideos | None = None,
) -> Tensor:
    """L_I: clips of one video agree, whatever their time; other videos are the negatives.

    NTX(G0, G1) + 1/4 sum NTX(S_c^i, S_c'^j) over the ordered pairs (i, c) != (j, c'). The sum is
    divided by the number of short clips (4), as in the released code, and not by its 56 terms.

    Args:
        long: (B, 2, D) the two augmentations of the long clip.
        short: (B, 2, C, D) the two augmentations of the C short clips (C = 4).
        temperature: The t of the formula, above 0.
        weights: (B,) The videos' weights. A video of weight 0 is no negative of the others.
        videos: (B,) Numbers of the videos. Two windows of one video are neither negatives nor
            positives of each other: only clips of one window are positives. None: all videos
            differ.
        earlier: Further negatives. Each NTX takes the same two clips of these videos as of the
            videos of the batch.
    """
    num_clips = short.shape[2]
    views = _by_clip(short)
    # `torch.combinations` would make the CPU wait until a GPU has counted the pairs.
    one, two = torch.triu_indices(len(views), len(views), offset=1, device=short.device)
    # NTX is symmetric in its arguments: each unordered pair stands for two ordered ones.
    of_long = of_short = None
    if earlier is not None:
        counts, old = earlier.others.repeat(2, 2), _by_clip(earlier.short)
        of_long = Further(earlier.long.transpose(0, 1).flatten(0, 1), counts)
        of_short = Further(torch.cat([old[one], old[two]], dim=1), counts)
    among_short = 2 * nt_xent(views[one], views[two], temperature, weights, videos, of_short).sum()
    among_long = nt_xent(long[:, 0], long[:, 1], temperature, weights, videos, of_long)
    return among_long + among_short / num_clips


def _by_clip(short: Tensor) -> Tensor:
    """(B, 2, C, D) -> (2C, B, D)."""
    return short.flatten(1, 2).transpose(0, 1)


def distinctive_pooled_loss(
    short: Tensor,
    temperature: float = 0.1,
    reduction: Reduction | str = Reduction.MEAN,
    weights: Tensor | None = None,
) -> Tensor:
    """L_D1: a short clip matches the same time in the other augmentation, and no other time.

    NTX(S0[b], S1[b]) for each video b; nothing crosses videos. NTX is a mean over 2C anchors, with
    the chance value ln(2C - 1) (ln 7).

    Args:
        short: (B, 2, C, D) the two augmentations of the C short clips.
        temperature: The t of the formula, above 0.
        reduction: "mean" over the batch (ours); or "sum" over the batch, as in the released code,
            where the term grows with the batch size; or "anchor-sum", which is 2C times the mean.
            It is a sum over a video's anchors, like L_D2 (chance values 8 ln 7 and 16 ln 4).
        weights: (B,) The videos' weights. The sum takes each good video once.

    Raises:
        ValueError: `reduction` is none of these.
    """
    per_video = nt_xent(short[:, 0], short[:, 1], temperature)
    match Reduction(reduction):
        case Reduction.MEAN:
            return _weighted(per_video, weights).mean()
        case Reduction.SUM:
            return _weighted(per_video, None if weights is None else weights.sign()).sum()
        case Reduction.ANCHOR_SUM:
            num_anchors = 2 * short.shape[2]
            return num_anchors * _weighted(per_video, weights).mean()


def distinctive_unpooled_loss(
    slices: Tensor, short: Tensor, temperature: float = 0.1, weights: Tensor | None = None
) -> Tensor:
    """L_D2: each temporal slice of the long clip matches the short clip of the same time.

    The loss is the sum over the four (i, j) of the mean over videos of
    1/2 sum_t [CE(row t of M, t) + CE(column t of M, t)], where M = U_b^i (S_b^j)^T / t. Its chance
    value is 4 C ln C (16 ln 4).

    Args:
        slices: (B, 2, C, D) temporal slices of the long clip's unpooled feature map, embedded.
        short: (B, 2, C, D) the short clips.
        temperature: The t of the formula, above 0.
        weights: (B,) The videos' weights.
    """
    logits = torch.einsum("bitd,bjsd->bijts", slices, short) / temperature
    aligned = logits.diagonal(dim1=-2, dim2=-1)
    by_row = logits.logsumexp(-1) - aligned
    by_column = logits.logsumexp(-2) - aligned
    return _weighted((by_row + by_column).sum(dim=(1, 2, 3)), weights).mean() / 2


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_sup: mean over the videos of -log softmax(logits)[label].

    Args:
        logits: (B, K) any real numbers.
        labels: (B,) int64 in [0, K), also for a video of weight 0.
        weights: (B,) The videos' weights.
    """
    if weights is None:
        return functional.cross_entropy(logits, labels)
    return _weighted(functional.cross_entropy(logits, labels, reduction="none"), weights).mean()


def distillation_loss(
    student_logits: Tensor,
    teacher_probs: Tensor,
    kind: Distance | str = Distance.L2,
    weights: Tensor | None = None,
) -> Tensor:
    """L_unsup: mean over the batch of the distance between p_S = softmax(logits) and p_T.

    Args:
        student_logits: (B, K) any real numbers.
        teacher_probs: (B, K) rows that sum to 1; no gradient flows into them.
        kind: "l2": sum_k (p_S - p_T)^2; "kl": KL(p_T || p_S); "js": the Jensen-Shannon divergence.
            Natural logarithm.
        weights: (B,) The videos' weights.

    Raises:
        ValueError: `kind` is none of these.
    """
    if kind not in list(Distance):
        raise ValueError(f"kind is {kind!r}: choose l2, kl or js")
    chosen = Distance(kind)
    target = teacher_probs.detach()
    log_student = student_logits.log_softmax(-1)
    student = log_student.exp()
    match chosen:
        case Distance.L2:
            distance: Tensor = (student - target) ** 2
            return _weighted(distance.sum(-1), weights).mean()
        case Distance.KL:
            if weights is None:
                return functional.kl_div(log_student, target, reduction="batchmean")
            divergences = functional.kl_div(log_student, target, reduction="none")
            return _weighted(divergences.sum(-1), weights).mean()
        case Distance.JS:
            middle = ((student + target) / 2).clamp_min(torch.finfo(student.dtype).tiny)
            # p log p comes from the log-softmax, so its gradient stays finite where p underflows.
            entropies = student * log_student + torch.special.xlogy(target, target)
            divergence: Tensor = entropies / 2 - middle * middle.log()
            return _weighted(divergence.sum(-1), weights).mean()
        case _:
            assert_never(chosen)


def pseudo_label_loss(
    answers: Tensor, guesses: Tensor, threshold: float, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross entropy of answers against the guesses that are confident enough to count as labels.

    A guess below the threshold counts as 0 in the mean over all guesses, as published (Lee 2013;
    FixMatch, Sohn et al. 2020).

    Args:
        answers: (U, K) logits that should agree with the guesses.
        guesses: (U, K) logits whose argmax is the pseudo-label; no gradient flows into them.
        threshold: The probability from which a guess counts, in [0, 1].
        weights: (U,) The videos' weights.

    Returns:
        () the loss and () the share of guesses that count.
    """
    confidence, guessed = guesses.detach().softmax(-1).max(-1)
    confident = _weighted((confidence >= threshold).float(), weights)
    entropies = functional.cross_entropy(answers, guessed, reduction="none")
    return (entropies * confident).mean(), confident.mean()
