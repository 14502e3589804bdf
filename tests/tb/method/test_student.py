"""The student: its target, its videos, its settings."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.similarity_cache import SIMILARITY, read_similarity
from tb.method.student import StudentStep, student_stage
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.stage_kinds import TeacherWeights
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint
from tb.workflow.run import run_stage
from tests.tb.steps import terms_of

SHARPER = 100.0


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_checkpoint(path)["model"]
    return state


def test_the_student_s_target_is_the_teachers_mixture_by_each_video_s_similarity(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    changes = {"omega": 0.3, "teachers": TeacherWeights.SIMILARITY}
    settings = config.student.model_copy(update=changes)
    stage = student_stage(manifest, config.model_copy(update={"student": settings}), finished)
    stage.model.eval()  # the student's own dropout and batch statistics are not the question
    batches = tuple(next(loader.stream()) for loader in stage.loaders)
    assert isinstance(stage.step, StudentStep)
    weights_in_use = stage.step.teachers.invariant_weight
    stored = read_similarity(finished / SIMILARITY, manifest)
    assert stored is not None
    assert torch.equal(weights_in_use, stored.nan_to_num(0.5))  # test videos have no score
    # Briefly trained teachers hardly differ, and their scores neither: what a wrong video's score
    # or the other teacher would change must be seen.
    similarity = torch.linspace(0, 1, len(manifest))
    weights_in_use.copy_(similarity)
    for teacher in stage.step.teachers.networks:
        teacher.fc.weight.data *= SHARPER
    terms = terms_of(stage.step, batches)
    teachers = []
    for name in ("invariant", "distinctive"):
        model = Classifier(build_backbone("small"), 12).eval()
        model.load_state_dict(weights(finished / f"finetune-{name}" / CHECKPOINT))
        model.fc.weight.data *= SHARPER
        teachers.append(model)
    distances, entropies = [], []
    for batch in batches:
        for place, row in enumerate(batch.plan.rows.tolist()):
            clip = batch.views["clip"][place : place + 1]
            with torch.no_grad():
                invariant, distinctive = (net(clip).softmax(-1)[0] for net in teachers)
                student = stage.model(clip)[0]
            weight = similarity[row]
            target = weight * invariant + (1 - weight) * distinctive
            distances.append(((student.softmax(-1) - target) ** 2).sum().item())
            if batch is batches[0]:
                entropies.append(-student.log_softmax(-1)[manifest.labels[row]].item())
    assert terms["L_unsup"].item() == pytest.approx(np.mean(distances), rel=1e-4)
    assert terms["L_sup"].item() == pytest.approx(np.mean(entropies), rel=1e-4)
    total = terms["L_sup"] + 0.3 * terms["L_unsup"]
    assert torch.equal(terms["loss"], total)


def test_unlabelled_videos_reach_the_student_without_their_labels(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    labelled, unlabelled = student_stage(manifest, config, finished).loaders
    assert set(labelled.rows) | set(unlabelled.rows) == set(manifest.indices("train"))
    assert not set(labelled.rows) & set(unlabelled.rows)
    assert (next(unlabelled.stream()).labels == -1).all()
    assert (next(labelled.stream()).labels >= 0).all()


def test_other_clips_for_the_similarity_are_other_settings_of_the_student(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    changed = load_config(str(work / "config.yaml"), ["pretrain.clips.stride=1"])
    with pytest.raises(
        InputError, match=r"holds a run with other settings: teachers\.calibration\.similarity was"
    ):
        run_stage("student", manifest, changed, work)
