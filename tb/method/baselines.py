"""Semi-supervised baselines: the student's network, start, labels, batches and steps, no teachers.

    pseudo-label   Lee, ICML workshop 2013: its own confident predictions are labels.
    fixmatch       Sohn et al., NeurIPS 2020, on clips: confident predictions for the weakly
                   augmented view of a clip are labels for its strongly augmented view.
    mean-teacher   Tarvainen and Valpola, NeurIPS 2017: agreement with the running mean of its own
                   weights, which sees another augmentation of the clip. The mean is the result.

An unlabelled batch is as large as a labelled one (FixMatch's paper takes seven times as many), so
that a step costs about what the student's does; Mean Teacher's weight is not ramped up. The
supervised-only baseline is in `tb.method.stages`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from loaders.loader import Batch
from loaders.plan import views
from shards.format.manifest import Manifest
from tb import losses
from tb.config.settings import Config, Optim
from tb.method.stages import (
    classifier_stage,
    clip_views,
    init_student,
    new_classifier,
    stage_loader,
)
from tb.training.loop import Stage

Terms = dict[str, Tensor]
# (network, the running mean of its weights if it averages, labelled, unlabelled, settings) -> named
# scalars
Loss = Callable[[nn.Module, nn.Module | None, Batch, Batch, Config], Terms]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What sets a baseline apart."""

    unlabelled_views: Callable[[Config], views.ViewSpec]
    loss: Loss
    averages: bool = False


def baseline_stage(kind: str, manifest: Manifest, config: Config, work: Path) -> Stage:
    """A baseline by its name in NAMES; `work` holds the checkpoint that `student.init` names."""
    how = _KINDS[kind]
    optim = _optim(config, how)
    labelled = stage_loader(manifest, clip_views(config), "labelled", config, optim)
    unlabelled = stage_loader(manifest, how.unlabelled_views(config), "unlabelled", config, optim)
    model = new_classifier(manifest, config)
    average = new_classifier(manifest, config) if how.averages else None
    init = init_student(model, config, work)

    def loss(batches: tuple[Batch, ...]) -> Terms:
        first, second = batches
        return how.loss(model, average, first, second, config)

    facts = {
        "baseline": kind,
        "baselines": config.baselines.model_dump(mode="json"),
        "optim": optim.model_dump(mode="json"),
        "init": init,
    }
    streams = (labelled, unlabelled)
    stage = classifier_stage(kind, model, manifest, config, optim, streams, loss, facts)
    return replace(stage, average=average)


def _optim(config: Config, how: _Kind) -> Optim:
    optim = config.student.optim
    if not how.averages:
        return optim
    return optim.model_copy(update={"ema_decay": config.baselines.ema_decay})


def _pseudo_label(
    model: nn.Module, average: nn.Module | None, labelled: Batch, unlabelled: Batch, config: Config
) -> Terms:
    clips = torch.cat([labelled.views["clip"], unlabelled.views["clip"]])
    logits, guesses = model(clips).float().split([len(labelled.keys), len(unlabelled.keys)])
    return with_guesses(logits, labelled.labels, guesses, guesses, config)


def _fixmatch(
    model: nn.Module, average: nn.Module | None, labelled: Batch, unlabelled: Batch, config: Config
) -> Terms:
    weak, strong = unlabelled.views["weak"], unlabelled.views["strong"]
    # One forward, as published: batch norm sees all three kinds together.
    clips = torch.cat([labelled.views["clip"], weak, strong])
    logits, guesses, answers = (
        model(clips).float().split([len(labelled.keys), len(weak), len(strong)])
    )
    return with_guesses(logits, labelled.labels, guesses, answers, config)


def with_guesses(
    logits: Tensor, labels: Tensor, guesses: Tensor, answers: Tensor, config: Config
) -> Terms:
    """Cross entropy on labels, and against the model's own confident guesses.

    A guess below the threshold counts as 0 in a mean over all of them, as published.

    Args:
        logits: (B, K) for the labelled videos.
        labels: (B,) int64.
        guesses: (U, K) logits whose argmax is the pseudo-label; no gradient flows into them.
        answers: (U, K) logits that are to agree with it.
        config: `config.baselines` has threshold and weight.
    """
    settings = config.baselines
    confidence, guessed = guesses.detach().softmax(-1).max(-1)
    confident = (confidence >= settings.threshold).float()
    supervised = functional.cross_entropy(logits, labels)
    unsupervised = (functional.cross_entropy(answers, guessed, reduction="none") * confident).mean()
    return {
        "loss": supervised + settings.pseudo_label_weight * unsupervised,
        "L_sup": supervised,
        "L_unsup": unsupervised,
        "confident": confident.mean(),
    }


def _mean_teacher(
    model: nn.Module, average: nn.Module | None, labelled: Batch, unlabelled: Batch, config: Config
) -> Terms:
    assert average is not None
    with torch.no_grad():
        target = average(unlabelled.views["weak"]).float().softmax(-1)
    clips = torch.cat([labelled.views["clip"], unlabelled.views["strong"]])
    logits, answers = model(clips).float().split([len(labelled.keys), len(unlabelled.keys)])
    supervised = functional.cross_entropy(logits, labelled.labels)
    distance = losses.distillation_loss(answers, target, "l2")
    return {
        "loss": supervised + config.baselines.consistency_weight * distance,
        "L_sup": supervised,
        "L_unsup": distance,
    }


def _weak_and_strong(config: Config) -> views.ViewSpec:
    return _pair(config, config.baselines.weak, config.baselines.strong)


def _twice_alike(config: Config) -> views.ViewSpec:
    augment = config.classify.clips.augment
    return _pair(config, augment, augment)


def _pair(config: Config, weak: views.Augment, strong: views.Augment) -> views.ViewSpec:
    clips = config.classify.clips
    return views.weak_strong(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        weak=weak,
        strong=strong,
    )


_KINDS = {
    "pseudo-label": _Kind(unlabelled_views=clip_views, loss=_pseudo_label),
    "fixmatch": _Kind(unlabelled_views=_weak_and_strong, loss=_fixmatch),
    "mean-teacher": _Kind(unlabelled_views=_twice_alike, loss=_mean_teacher, averages=True),
}
NAMES = tuple(_KINDS)
