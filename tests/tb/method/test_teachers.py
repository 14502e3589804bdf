from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from loaders import Part
from loaders.plan.normalization import NORMALIZATIONS
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.finetuned_teachers import videos_by_finetuned_teachers
from tb.method.similarity_cache import SIMILARITY, read_similarity
from tb.method.student import StudentStep
from tb.method.teachers import load_teachers, mix_teachers
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.stage_kinds import Teacher, TeacherWeights
from tb.weights.checkpoint import CHECKPOINT, load_model
from tests.tb.steps import terms_of

CPU = torch.device("cpu")


def taught_by(config: Config, teachers: str) -> Config:
    student = config.student.model_copy(update={"teachers": TeacherWeights(teachers)})
    return config.model_copy(update={"student": student})


def probabilities(
    work: Path, teacher: str, manifest: Manifest, clips: torch.Tensor
) -> torch.Tensor:
    model = Classifier(build_backbone("small"), len(manifest.classes)).eval()
    path = work / Teacher(teacher).finetuned / CHECKPOINT
    load_model(path, model, classes=list(manifest.classes), normalization=None)
    with torch.no_grad():
        return model(clips).softmax(-1)


class Constant(Classifier):
    """A student that gives the same logits whatever it sees."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(clips), 12)


def target_of(
    config: Config, manifest: Manifest, work: Path, clips: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """The target in the student's loss."""
    step = StudentStep(
        student=Constant(build_backbone("small"), 12),
        teachers=load_teachers(manifest, config, work, CPU),
        settings=config.student,
    )
    batches = [
        SimpleNamespace(
            views={"clip": clips[part]},
            labels=torch.zeros(len(clips[part]), dtype=torch.long),
            plan=SimpleNamespace(rows=rows[part].numpy()),
        )
        for part in (slice(0, 1), slice(1, None))
    ]
    with patch("tb.losses.distillation_loss", return_value=torch.zeros(())) as distance:
        terms_of(step, tuple(batches))
    target: torch.Tensor = distance.call_args.args[1]
    return target


@pytest.mark.parametrize(
    ("teachers", "weight"),
    [
        ("invariant", 1.0),
        ("distinctive", 0.0),
        ("equal", 0.5),
        ("similarity", None),
        ("stretched", None),
    ],
)
def test_target_is_the_mixture_asked_for(
    manifest: Manifest, config: Config, finished: Path, teachers: str, weight: float | None
) -> None:
    rows = torch.from_numpy(config.labels.subset(Part.ALL).rows(manifest))[:3]
    clips = torch.rand(3, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    invariant, distinctive = (
        probabilities(finished, name, manifest, clips) for name in ("invariant", "distinctive")
    )
    scores = read_similarity(finished / SIMILARITY, manifest)
    assert scores is not None
    if teachers == "stretched":
        known = scores.numpy()[config.labels.subset(Part.ALL).rows(manifest)]
        scores = (scores - float(known.min())) / float(known.max() - known.min())
    share = scores[rows, None] if weight is None else weight
    wanted = share * invariant + (1 - share) * distinctive
    found = target_of(taught_by(config, teachers), manifest, finished, clips, rows)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert not found.requires_grad


def test_the_oracle_takes_the_better_teacher_by_hidden_labels_and_says_so(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    """Oracle: the evaluation of each teacher, video by video."""
    found = load_teachers(manifest, taught_by(config, "oracle"), finished, CPU)
    assert found.source["hidden_labels"] is True
    unlabelled = config.labels.subset(Part.UNLABELLED).rows(manifest)
    weights = found.invariant_weight[unlabelled]
    assert set(weights.tolist()) == {0.0, 1.0}
    videos = videos_by_finetuned_teachers(manifest, config, finished, Part.UNLABELLED)
    assert videos.rows.tolist() == unlabelled.tolist()
    target = videos.mixture(weights.double().numpy())
    invariant, distinctive = map(videos.of_labels, (videos.invariant, videos.distinctive))
    assert videos.of_labels(target).tolist() == np.maximum(invariant, distinctive).tolist()
    plain = load_teachers(manifest, taught_by(config, "similarity"), finished, CPU)
    assert "hidden_labels" not in plain.source


def test_only_the_teachers_that_count_must_be_there(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "finetune-invariant").symlink_to(finished / "finetune-invariant")
    alone = load_teachers(manifest, taught_by(config, "invariant"), tmp_path, CPU)
    assert len(alone.networks) == 1
    with pytest.raises(InputError, match=r"finetune-distinctive.*no such checkpoint"):
        load_teachers(manifest, taught_by(config, "equal"), tmp_path, CPU)


def test_teachers_are_not_shown_clips_of_another_scale(
    finished: Path, manifest: Manifest, config: Config
) -> None:
    other = config.model_copy(update={"normalization": NORMALIZATIONS["imagenet"]})
    with pytest.raises(InputError, match="trained with normalization none, but this run's is"):
        load_teachers(manifest, taught_by(other, "invariant"), finished, CPU)


def test_similar_clips_trust_the_invariant_teacher() -> None:
    invariant, distinctive = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[0.0, 1.0]] * 3)
    mixed = mix_teachers(invariant, distinctive, torch.tensor([1.0, 0.0, 0.25]))
    assert mixed.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]]
