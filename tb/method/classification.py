"""What all stages that train a classifier share: the network, its start and the settings."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import torch

from loaders import Part
from shards.format.manifest import Manifest
from tb import losses
from tb.config.differences import Tree
from tb.config.optim import Optim
from tb.config.sections import Config
from tb.evaluation.evaluate import evaluation_settings
from tb.method.run_settings import label_settings, run_settings
from tb.method.streams import Stream, clip_views, open_stream
from tb.method.validation import open_validation
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier, to_channels_last
from tb.stage_kinds import FROM_SCRATCH, StageKind
from tb.training.bad_videos import weights_of
from tb.training.stage import Stage, TakeStep
from tb.training.step import Step
from tb.weights.checkpoint import CHECKPOINT
from tb.weights.pretrained import load_pretrained


@dataclass(frozen=True, kw_only=True)
class SupervisedStep:
    """A step of fine-tuning and of the supervised-only baseline: cross entropy on labelled videos.

    Attributes:
        model: The classifier in training.
    """

    model: Classifier

    def __call__(self, step: Step) -> None:
        """A whole step on labelled videos."""
        for (labelled,) in step.batches():
            with step.autocast:
                logits = self.model(labelled.views["clip"])
                loss = losses.cross_entropy(logits, labelled.labels, weights_of(labelled))
            step.backward({"loss": loss})
        step.update()


def new_classifier(manifest: Manifest, config: Config) -> Classifier:
    """An untrained classifier of the data set's classes, the same for the same seed."""
    torch.manual_seed(config.machine.seed)
    backbone = build_backbone(config.backbone)
    return to_channels_last(Classifier(backbone, len(manifest.classes), config.classify.dropout))


def start_student(model: Classifier, config: Config, work: Path) -> str:
    """Starts the backbone as `student.init` says.

    Returns:
        What identifies the start: the sha256 of the file, or "scratch".
    """
    init = config.student.init
    if init == FROM_SCRATCH:
        return init
    path = config.student.init_file or work / init / CHECKPOINT
    return load_pretrained(path, model.backbone, config.normalization)


def supervised_stage(
    kind: StageKind, model: Classifier, manifest: Manifest, config: Config, optim: Optim, init: str
) -> Stage:
    """A stage that trains a classifier on the labelled videos alone.

    Args:
        kind: The stage; its name is the folder's.
        model: Trained in place.
        manifest: The data set.
        config: All settings.
        optim: The stage's section `optim`.
        init: What identifies the start of `model`, as `start_student` returns it.
    """
    return classifier_stage(
        str(kind),
        model,
        manifest,
        config,
        optim=optim,
        streams=(Stream(part=Part.LABELLED, spec=clip_views(config)),),
        step=SupervisedStep(model=model),
        own_settings={"optim": optim.model_dump(mode="json"), "init": init},
    )


def classifier_stage(
    name: str,
    model: Classifier,
    manifest: Manifest,
    config: Config,
    *,
    optim: Optim,
    streams: tuple[Stream, ...],
    step: TakeStep,
    own_settings: Tree,
    average: Classifier | None = None,
    frozen: tuple[Classifier, ...] = (),
) -> Stage:
    """A stage that trains a classifier, with validation where `labels.validation` asks for it.

    Args:
        name: The stage's name, which is the folder's.
        model: Trained in place.
        manifest: The data set.
        config: All settings.
        optim: The stage's section `optim`.
        streams: The streams of its batches.
        step: A whole step.
        own_settings: What the result depends on, apart from labels and clips.
        average: Holds the running mean of the weights.
        frozen: Other networks that a step runs.
    """
    validation = None
    with ExitStack() as opened:  # closes the loaders again if one of them cannot be opened
        loaders = tuple(
            opened.enter_context(closing(open_stream(stream, manifest, config, optim)))
            for stream in streams
        )
        if config.labels.validation:
            validation = open_validation(model, manifest, config)
            own_settings = own_settings | {"validated_on": evaluation_settings(config)}
        opened.pop_all()
    return Stage(
        name=name,
        model=model,
        classes=list(manifest.classes),
        optim=optim,
        loaders=loaders,
        step=step,
        settings=run_settings(
            config,
            manifest,
            labels=label_settings(config),
            classify=config.classify.model_dump(mode="json"),
            **own_settings,
        ),
        average=average,
        frozen=frozen,
        validate=validation,
        validation_loader=None if validation is None else validation.loader,
    )
