"""Builds the stage of a kind."""

from dataclasses import replace
from pathlib import Path

from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from tb.config.optim import Optim
from tb.config.sections import Config
from tb.method.augmentation import augmentation_of
from tb.method.baselines import (
    baseline_stage,
    method_folder,
    registered_pretraining,
    supervised_only_stage,
)
from tb.method.finetuning import finetune_stage
from tb.method.pretraining import own_pretraining_stage, pretrain_stage
from tb.method.streams import clip_views, pretrain_views, stage_engine
from tb.method.student import student_stage
from tb.stage_kinds import BASELINES, FINETUNED, SELF_SUPERVISED, StageKind, Teacher
from tb.training.engine_record import with_engine
from tb.training.stage import Stage
from tb.weights.checkpoint import CHECKPOINT


def build_stage(
    kind: str,
    manifest: Manifest,
    config: Config,
    work: Path,
    *,
    name: str | None = None,
    init: Path | None = None,
) -> Stage:
    """A stage, ready for `tb.training.loop.train`.

    Args:
        kind: The stage, a `StageKind` or the name of a registered method.
        manifest: The data set.
        config: All settings.
        work: The work folder, which holds the stages that this one needs.
        name: The stage's folder in `work`; default: the kind's name, or for a registered
            method the name of its class in lower case.
        init: For fine-tuning: the file to start from; default: the teacher's checkpoint in `work`.

    Raises:
        InputError: Videos, labels or an earlier stage are missing, or a name is not registered.
    """
    name, augment = name or default_folder(kind), augmentation_of(config)
    spec, optim = stage_views(kind, config), stage_optim(kind, config)
    engine = stage_engine(spec, manifest, config, optim, work / name)
    stage = _built(kind, manifest, with_engine(config, engine), work, name, init)
    return replace(stage, name=name, engine=engine, augment=augment)


def stage_views(kind: str, config: Config) -> ViewSpec:
    """The views that a stage trains on."""
    return pretrain_views(config) if _is_pretraining(kind) else clip_views(config)


def stage_optim(kind: str, config: Config) -> Optim:
    """The settings of a stage's optimizer and of its batches."""
    if _is_pretraining(kind):
        return config.pretrain.optim
    return (config.finetune if kind in FINETUNED else config.student).optim


def _is_pretraining(kind: str) -> bool:
    return kind in SELF_SUPERVISED or registered_pretraining(kind) is not None


def default_folder(kind: str) -> str:
    """The folder of a stage in a work folder, if no other name is given."""
    return StageKind(kind).value if kind in list(StageKind) else method_folder(kind)


def _built(
    kind: str, manifest: Manifest, config: Config, work: Path, name: str, init: Path | None
) -> Stage:
    if own := registered_pretraining(kind):
        return own_pretraining_stage(kind, own, manifest, config)
    if kind not in list(StageKind):
        return baseline_stage(kind, manifest, config, work)
    kind = StageKind(kind)
    if kind in SELF_SUPERVISED:
        return pretrain_stage(kind, manifest, config)
    for teacher in Teacher:
        if kind is teacher.finetuned:
            start = init or work / teacher.pretrained / CHECKPOINT
            return finetune_stage(teacher, manifest, config, start)
    if kind in BASELINES:
        return baseline_stage(kind, manifest, config, work)
    if kind is StageKind.SUPERVISED:
        return supervised_only_stage(manifest, config)
    return student_stage(manifest, config, work, name)
