"""The baselines. They share the student's network, start, labels, batches and steps.

They have no teachers.

    supervised     It learns from the labelled videos alone, from scratch.
    pseudo-label   Lee, ICML workshop 2013: its own confident predictions count as labels.
    fixmatch       Sohn et al., NeurIPS 2020, on clips: confident predictions for the weakly
                   augmented view of a clip are labels for its strongly augmented view.
    mean-teacher   Tarvainen and Valpola, NeurIPS 2017: agreement with the running mean of its own
                   weights, which sees another augmentation of the clip. The mean is the result.

An unlabelled batch is as large as a labelled one (FixMatch's paper takes seven times as many), so a
step costs about what the student's does. Mean Teacher's weight is constant, not ramped up.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from loaders import Batch, Part, ViewSpec
from loaders.plan import stage_views
from loaders.plan.views import Augment
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb import losses
from tb.config.sections import Baselines, Config
from tb.method.classification import (
    classifier_stage,
    new_classifier,
    start_student,
    supervised_stage,
)
from tb.method.streams import Stream, clip_views
from tb.networks.heads import Classifier
from tb.stage_kinds import BASELINES, FROM_SCRATCH, Distance, StageKind
from tb.training.bad_videos import weights_of
from tb.training.stage import Stage, Terms


@dataclass(frozen=True, kw_only=True)
class _BaselineLoss(ABC):
    """The loss of a baseline.

    Attributes:
        model: The classifier in training.
        settings: The section `baselines`.
        average: Holds the running mean of the model's weights, for a baseline that needs it.
    """

    model: Classifier
    settings: Baselines
    average: Classifier | None = None

    @abstractmethod
    def __call__(self, batches: tuple[Batch, ...]) -> Terms:
        """The terms of a labelled and an unlabelled batch."""

    def _pseudo_label_terms(
        self, batches: tuple[Batch, ...], logits: Tensor, answers: Tensor, guesses: Tensor
    ) -> Terms:
        """Cross entropy on labels, and of answers on confident guesses."""
        labelled, unlabelled = batches
        supervised = losses.cross_entropy(logits, labelled.labels, weights_of(labelled))
        unsupervised, confident = losses.pseudo_label_loss(
            answers, guesses, self.settings.threshold, weights_of(unlabelled)
        )
        return {
            "loss": supervised + self.settings.pseudo_label_weight * unsupervised,
            "L_sup": supervised,
            "L_unsup": unsupervised,
            "confident": confident,
        }


class PseudoLabelLoss(_BaselineLoss):
    """Cross entropy on labels, and on its own confident predictions for unlabelled clips."""

    def __call__(self, batches: tuple[Batch, ...]) -> Terms:
        """The terms of a labelled and an unlabelled batch."""
        labelled, unlabelled = batches
        clips = torch.cat([labelled.views["clip"], unlabelled.views["clip"]])
        logits, guesses = self.model(clips).float().split([len(x.keys) for x in batches])
        return self._pseudo_label_terms(batches, logits, guesses, guesses)


class FixMatchLoss(_BaselineLoss):
    """Cross entropy on labels, and of strong views on confident predictions for weak views."""

    def __call__(self, batches: tuple[Batch, ...]) -> Terms:
        """The terms of a labelled and an unlabelled batch."""
        labelled, unlabelled = batches
        weak, strong = unlabelled.views["weak"], unlabelled.views["strong"]
        # One forward, as published: batch norm sees all three kinds of clips together.
        clips = torch.cat([labelled.views["clip"], weak, strong])
        sizes = [len(labelled.keys), len(weak), len(strong)]
        logits, guesses, answers = self.model(clips).float().split(sizes)
        return self._pseudo_label_terms(batches, logits, answers, guesses)


class MeanTeacherLoss(_BaselineLoss):
    """Cross entropy on labels, and the distance to the running mean of its own weights."""

    def __call__(self, batches: tuple[Batch, ...]) -> Terms:
        """The terms of a labelled and an unlabelled batch."""
        labelled, unlabelled = batches
        assert self.average is not None
        with torch.no_grad():
            target = self.average(unlabelled.views["weak"]).float().softmax(-1)
        clips = torch.cat([labelled.views["clip"], unlabelled.views["strong"]])
        logits, answers = self.model(clips).float().split([len(x.keys) for x in batches])
        supervised = losses.cross_entropy(logits, labelled.labels, weights_of(labelled))
        distance = losses.distillation_loss(answers, target, Distance.L2, weights_of(unlabelled))
        total = supervised + self.settings.consistency_weight * distance
        return {"loss": total, "L_sup": supervised, "L_unsup": distance}


def supervised_only_stage(manifest: Manifest, config: Config) -> Stage:
    """The student's network and budget, from scratch on the labelled videos alone."""
    model = new_classifier(manifest, config)
    return supervised_stage(
        StageKind.SUPERVISED, model, manifest, config, config.student.optim, FROM_SCRATCH
    )


def check_baseline(kind: StageKind, config: Config) -> None:
    """Raises InputError where the student's settings ask for what a baseline cannot do."""
    decay = config.student.optim.ema_decay
    if kind in BASELINES and _BASELINES[kind].averages and decay is not None:
        raise InputError(
            f"student.optim.ema_decay is {decay:g}, but the running mean of {kind} has the decay"
            f" baselines.ema_decay ({config.baselines.ema_decay:g}): --set"
            " student.optim.ema_decay=null, and baselines.ema_decay as wanted"
        )


def baseline_stage(kind: StageKind, manifest: Manifest, config: Config, work: Path) -> Stage:
    """A stage of `BASELINES`; `work` holds the checkpoint that `student.init` names."""
    check_baseline(kind, config)
    baseline, optim = _BASELINES[kind], config.student.optim
    if baseline.averages:
        optim = optim.model_copy(update={"ema_decay": config.baselines.ema_decay})
    model = new_classifier(manifest, config)
    average = new_classifier(manifest, config) if baseline.averages else None
    init = start_student(model, config, work)
    return classifier_stage(
        kind,
        model,
        manifest,
        config,
        optim=optim,
        streams=(
            Stream(part=Part.LABELLED, spec=clip_views(config)),
            Stream(part=Part.UNLABELLED, spec=baseline.unlabelled_views(config)),
        ),
        loss=baseline.loss(model=model, settings=config.baselines, average=average),
        own_settings={
            "baseline": kind.value,
            "baselines": config.baselines.model_dump(mode="json"),
            "optim": optim.model_dump(mode="json"),
            "init": init,
        },
        average=average,
    )


def _weak_and_strong(config: Config) -> ViewSpec:
    return _pair(config, config.baselines.weak, config.baselines.strong)


def _twice_alike(config: Config) -> ViewSpec:
    augment = config.classify.clips.augment
    return _pair(config, augment, augment)


def _pair(config: Config, weak: Augment, strong: Augment) -> ViewSpec:
    clips = config.classify.clips
    return stage_views.weak_strong(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        weak=weak,
        strong=strong,
    )


@dataclass(frozen=True, kw_only=True)
class _Baseline:
    """What makes a baseline.

    Attributes:
        loss: Its loss.
        unlabelled_views: The views of its unlabelled videos.
        averages: Whether its result is the running mean of the weights.
    """

    loss: type[_BaselineLoss]
    unlabelled_views: Callable[[Config], ViewSpec]
    averages: bool = False


_BASELINES = {
    StageKind.PSEUDO_LABEL: _Baseline(loss=PseudoLabelLoss, unlabelled_views=clip_views),
    StageKind.FIXMATCH: _Baseline(loss=FixMatchLoss, unlabelled_views=_weak_and_strong),
    StageKind.MEAN_TEACHER: _Baseline(
        loss=MeanTeacherLoss, unlabelled_views=_twice_alike, averages=True
    ),
}
