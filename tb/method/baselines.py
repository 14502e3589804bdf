"""The baselines, and users' own methods. They share the student's network, start, labels and steps.

They have no teachers.

    supervised     It learns from the labelled videos alone, from scratch.
    pseudo-label   Lee, ICML workshop 2013: its own confident predictions count as labels.
    fixmatch       Sohn et al., NeurIPS 2020, on clips: confident predictions for the weakly
                   augmented view of a clip are labels for its strongly augmented view.
    mean-teacher   Tarvainen and Valpola, NeurIPS 2017: agreement with the running mean of its own
                   weights, which sees another augmentation of the clip. The mean is the result.

An unlabelled batch is as large as a labelled one (FixMatch's paper takes seven times as many), so a
step costs about what the student's does.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from inspect import isabstract
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from loaders import Batch, Part, ViewSpec
from loaders.plan import stage_views
from shards.errors import InputError, one_of
from shards.format.manifest import Manifest
from tb import losses
from tb.config.sections import Baselines, Config
from tb.method.classification import (
    classifier_stage,
    new_classifier,
    start_student,
    supervised_stage,
)
from tb.method.own_loss import OwnLoss
from tb.method.pretraining import PretrainingLoss
from tb.method.streams import Stream, clip_views
from tb.networks.heads import Classifier
from tb.registry import Registry, is_qualified
from tb.stage_kinds import FROM_SCRATCH, Distance, StageKind
from tb.training.bad_videos import weights_of
from tb.training.stage import Stage
from tb.training.step import Step
from tb.training.step_values import Terms


class UnlabelledViews(StrEnum):
    """What a method sees of an unlabelled video; a labelled one always shows its "clip"."""

    CLIP = "clip"
    """One view, "clip", augmented as labelled ones are."""
    TWICE = "twice"
    """Two views of the same frames, "weak" and "strong", both augmented as labelled ones are."""
    WEAK_STRONG = "weak-strong"
    """Two views of the same frames, "weak" and "strong", as the section `baselines` says."""

    def spec(self, config: Config) -> ViewSpec:
        """The views under some settings."""
        clips, section = config.classify.clips, config.baselines
        if self is UnlabelledViews.CLIP:
            return clip_views(config)
        is_twice = self is UnlabelledViews.TWICE
        return stage_views.weak_strong(
            num_frames=clips.num_frames,
            stride=clips.stride,
            stride_s=clips.stride_s,
            size_px=clips.size_px,
            weak=clips.augment if is_twice else section.weak,
            strong=clips.augment if is_twice else section.strong,
        )


@dataclass(frozen=True, kw_only=True)
class SemiSupervised(ABC):
    """A method that learns from labelled and unlabelled videos.

    Attributes:
        model: The classifier in training: clips (N, 3, T, H, W) to logits (N, K).
        settings: The section `baselines`.
        average: Holds the running mean of the model's weights, for a method with `averages`.
        unlabelled: The views of its unlabelled videos.
        averages: Whether its result is the running mean of the weights (`baselines.ema_decay`).
    """

    model: Classifier
    settings: Baselines
    average: Classifier | None = None
    unlabelled: ClassVar[UnlabelledViews | str] = UnlabelledViews.CLIP
    averages: ClassVar[bool] = False

    @abstractmethod
    def step(self, step: Step) -> None:
        """A whole step on labelled and unlabelled videos."""


class PseudoLabel(SemiSupervised):
    """Cross entropy on labels, and on its own confident predictions for unlabelled clips."""

    def step(self, step: Step) -> None:
        """A whole step on labelled and unlabelled videos."""
        for labelled, unlabelled in step.batches():
            clips = torch.cat([labelled.views["clip"], unlabelled.views["clip"]])
            sizes = [len(labelled.keys), len(unlabelled.keys)]
            with step.autocast:
                logits, guesses = self.model(clips).float().split(sizes)
                supervised = losses.cross_entropy(logits, labelled.labels, weights_of(labelled))
                unsupervised, confident = losses.pseudo_label_loss(
                    guesses, guesses, self.settings.threshold, weights_of(unlabelled)
                )
                total = supervised + self.settings.pseudo_label_weight * unsupervised
            terms = {"L_sup": supervised, "L_unsup": unsupervised, "confident": confident}
            step.backward({"loss": total, **terms})
        step.update()


class FixMatch(SemiSupervised):
    """Cross entropy on labels; strong views also learn confident predictions for the weak views."""

    unlabelled = UnlabelledViews.WEAK_STRONG

    def step(self, step: Step) -> None:
        """A whole step on labelled and unlabelled videos."""
        for labelled, unlabelled in step.batches():
            weak, strong = unlabelled.views["weak"], unlabelled.views["strong"]
            # One forward pass takes all three kinds, as published: batch norm sees them together.
            clips = torch.cat([labelled.views["clip"], weak, strong])
            sizes = [len(labelled.keys), len(weak), len(strong)]
            with step.autocast:
                logits, guesses, answers = self.model(clips).float().split(sizes)
                supervised = losses.cross_entropy(logits, labelled.labels, weights_of(labelled))
                unsupervised, confident = losses.pseudo_label_loss(
                    answers, guesses, self.settings.threshold, weights_of(unlabelled)
                )
                total = supervised + self.settings.pseudo_label_weight * unsupervised
            terms = {"L_sup": supervised, "L_unsup": unsupervised, "confident": confident}
            step.backward({"loss": total, **terms})
        step.update()


class MeanTeacher(SemiSupervised):
    """Cross entropy on labels, and the distance to the running mean of its own weights.

    The weight of the distance rises during a ramp-up, from exp(-5) of its full value. In this time
    the mean has a lower decay than afterwards (Tarvainen and Valpola 2017, and their released
    code). Their ramp-up takes 40,000 of 150,000 steps on CIFAR-10; ours takes `rampup_share`.
    """

    unlabelled = UnlabelledViews.TWICE
    averages = True

    def step(self, step: Step) -> None:
        """A whole step on labelled and unlabelled videos."""
        assert self.average is not None
        weight = self._ramp(step.progress) * self.settings.consistency_weight
        for labelled, unlabelled in step.batches():
            clips = torch.cat([labelled.views["clip"], unlabelled.views["strong"]])
            sizes = [len(labelled.keys), len(unlabelled.keys)]
            with step.autocast:
                with torch.no_grad():
                    target = self.average(unlabelled.views["weak"]).float().softmax(-1)
                logits, answers = self.model(clips).float().split(sizes)
                supervised = losses.cross_entropy(logits, labelled.labels, weights_of(labelled))
                distance = losses.distillation_loss(
                    answers, target, Distance.L2, weights_of(unlabelled)
                )
                total = supervised + weight * distance
            step.backward({"loss": total, "L_sup": supervised, "L_unsup": distance})
        # The mean forgets faster during the ramp-up.
        is_late = step.progress >= self.settings.rampup_share
        step.update(self.settings.late_ema_decay if is_late else self.settings.ema_decay)

    def _ramp(self, progress: float) -> float:
        """exp(-5 (1 - t)^2), where t runs from 0 to 1 during the ramp-up; then 1."""
        share = self.settings.rampup_share
        return 1.0 if progress >= share else math.exp(-5 * (1 - progress / share) ** 2)


@dataclass(frozen=True, kw_only=True)
class MethodLoss(OwnLoss, SemiSupervised):
    """The loss of a user's own semi-supervised method.

    Attributes:
        model: The classifier in training: clips (N, 3, T, H, W) to logits (N, K).
        settings: The section `baselines`.
        average: Holds the running mean of the model's weights, for a method with `averages`.
        unlabelled: The views of its unlabelled videos.
        averages: Whether its result is the running mean of the weights (`baselines.ema_decay`).
    """

    @abstractmethod
    def terms(self, labelled: Batch, unlabelled: Batch) -> Terms:
        """The terms of a labelled and an unlabelled batch.

        Returns:
            Named scalars: "loss", whose gradient is taken, and others for the log.
        """

    def cross_entropy(self, logits: Tensor, labelled: Batch) -> Tensor:
        """() cross entropy of (N, K) logits on a batch's labels; bad videos do not count."""
        return losses.cross_entropy(logits, labelled.labels, weights_of(labelled))


_BUILT_IN: dict[str, type[SemiSupervised]] = {
    StageKind.PSEUDO_LABEL: PseudoLabel,
    StageKind.FIXMATCH: FixMatch,
    StageKind.MEAN_TEACHER: MeanTeacher,
}
RegisteredMethod = TypeVar("RegisteredMethod", bound=type[OwnLoss])
_REGISTERED: Registry[type[OwnLoss]] = Registry("method", "tb.register_method")


def register_method(method: RegisteredMethod) -> RegisteredMethod:
    """A decorator: `tb.train` and `tb train method` train with this class.

    The class is a subclass of `MethodLoss`, which trains a classifier, or of `PretrainingLoss`,
    which trains a backbone without labels.

    Raises:
        InputError: The class is no such subclass, lacks `terms`, is not at the top level of a
            module, or its `unlabelled` is not one of `UnlabelledViews`.
    """
    if not (isinstance(method, type) and issubclass(method, MethodLoss | PretrainingLoss)):
        raise InputError(
            f"method {method.__name__}: make it a subclass of tb.MethodLoss, or of"
            " tb.PretrainingLoss"
        )
    if isabstract(method):
        raise InputError(f"method {method.__name__}: write its function `terms`")
    if issubclass(method, MethodLoss):
        one_of(UnlabelledViews, "unlabelled", method.unlabelled)
    _REGISTERED.add(method)
    return method


def registered_method_name(method: type[OwnLoss]) -> str:
    """ "module.name" of a registered method; InputError for other classes."""
    return _REGISTERED.name_of(method)


def method_folder(kind: str) -> str:
    """The folder of a registered method in a work folder: "my_parts.MyMethod" -> "mymethod".

    Raises:
        InputError: It is not registered.
    """
    return _REGISTERED.find(kind).__name__.lower()


def registered_pretraining(kind: str) -> type[PretrainingLoss] | None:
    """The registered class of that name if it pretrains; None for a built-in stage or a classifier.

    Raises:
        InputError: The name is qualified and not registered.
    """
    method = _REGISTERED.find(kind) if is_qualified(kind) else None
    return method if method is not None and issubclass(method, PretrainingLoss) else None


def supervised_only_stage(manifest: Manifest, config: Config) -> Stage:
    """The student's network and budget, from scratch on the labelled videos alone."""
    model = new_classifier(manifest, config)
    return supervised_stage(
        StageKind.SUPERVISED, model, manifest, config, config.student.optim, FROM_SCRATCH
    )


def check_baseline(kind: str, config: Config) -> None:
    """Raises InputError where the student's settings contradict those of a baseline."""
    decay = config.student.optim.ema_decay
    is_method = kind in _BUILT_IN or is_qualified(kind)
    if is_method and _method(kind).averages and decay is not None:
        raise InputError(
            f"student.optim.ema_decay is {decay:g}, but the running mean of {kind} has the decay"
            f" baselines.ema_decay ({config.baselines.ema_decay:g}): --set"
            " student.optim.ema_decay=null, and baselines.ema_decay as wanted"
        )


def baseline_stage(kind: str, manifest: Manifest, config: Config, work: Path) -> Stage:
    """The stage of a baseline or of a registered method.

    Args:
        kind: One of `BASELINES`, or a registered name.
        manifest: The data set.
        config: All settings.
        work: Holds the checkpoint that `student.init` names.

    Raises:
        InputError: The method is not registered, its start is missing, or as `check_baseline`.
    """
    check_baseline(kind, config)
    method, optim = _method(kind), config.student.optim
    if method.averages:
        optim = optim.model_copy(update={"ema_decay": config.baselines.ema_decay})
    model = new_classifier(manifest, config)
    average = new_classifier(manifest, config) if method.averages else None
    init = start_student(model, config, work)
    unlabelled = one_of(UnlabelledViews, "unlabelled", method.unlabelled)
    return classifier_stage(
        str(kind),
        model,
        manifest,
        config,
        optim=optim,
        streams=(
            Stream(part=Part.LABELLED, spec=clip_views(config)),
            Stream(part=Part.UNLABELLED, spec=unlabelled.spec(config)),
        ),
        step=method(model=model, settings=config.baselines, average=average).step,
        own_settings={
            "baseline": str(kind),
            "baselines": config.baselines.model_dump(mode="json"),
            "optim": optim.model_dump(mode="json"),
            "init": init,
        },
        average=average,
    )


def _method(kind: str) -> type[SemiSupervised]:
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    method = _REGISTERED.find(kind)
    assert issubclass(method, MethodLoss)
    return method
