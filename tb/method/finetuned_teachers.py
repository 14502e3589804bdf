"""The fine-tuned teachers as frozen networks, and what they say about training videos."""

from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from loaders import Part
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.clips import evaluation_loader, video_means
from tb.method.judged_videos import JudgedVideos
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier, to_channels_last
from tb.stage_kinds import Teacher
from tb.training.engine_record import with_engine_of
from tb.weights.checkpoint import CHECKPOINT, load_model


def load_teacher(
    teacher: Teacher, manifest: Manifest, config: Config, work: Path, device: torch.device
) -> Classifier:
    """One of the fine-tuned teachers, frozen and in eval mode, on a device.

    Raises:
        InputError: It is missing, unfinished, or of another backbone or other classes.
    """
    path = work / teacher.finetuned / CHECKPOINT
    model = Classifier(build_backbone(config.backbone), len(manifest.classes))
    load_model(path, model, classes=list(manifest.classes), normalization=config.normalization)
    return to_channels_last(model).to(device).eval().requires_grad_(False)


def videos_by_finetuned_teachers(
    manifest: Manifest, config: Config, work: Path, part: Part
) -> JudgedVideos:
    """The training videos of a part and their labels, judged by the fine-tuned teachers.

    The labels of unlabelled videos are hidden from training. So a part with such videos is for
    analysis only. The teachers have learned from the labelled videos.

    Raises:
        InputError: A teacher is missing, unfinished or of another backbone, or there are no videos.
    """
    config = with_engine_of(work / Teacher.INVARIANT.finetuned, manifest, config)
    config.machine.limit_threads()
    subset = config.labels.subset(part)
    on_error = config.machine.fault_policy
    with closing(evaluation_loader(manifest, config, subset, on_error=on_error)) as loader:
        networks = [
            load_teacher(teacher, manifest, config, work, loader.device) for teacher in Teacher
        ]

        def both(clips: Tensor) -> Tensor:
            return torch.cat([network(clips).float().softmax(-1) for network in networks], dim=1)

        found, rows = video_means(loader, both, "fine-tuned teachers")
    invariant, distinctive = np.split(found.astype(np.float64), 2, axis=1)
    return JudgedVideos(
        rows=rows,
        labels=manifest.labels[rows],
        folds=np.zeros(len(rows), dtype=np.int64),
        invariant=invariant,
        distinctive=distinctive,
    )
