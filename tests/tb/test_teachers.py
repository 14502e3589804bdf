from pathlib import Path

import pytest
import torch

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.settings import Config
from tb.method.scores import SIMILARITY, read_similarity
from tb.method.teachers import finetuned, load_teachers
from tb.networks.models import Classifier, build_backbone
from tb.weights.checkpoint import CHECKPOINT, load_model

CPU = torch.device("cpu")


def taught_by(config: Config, teachers: str) -> Config:
    student = config.student.model_copy(update={"teachers": teachers})
    return config.model_copy(update={"student": student})


def probabilities(
    work: Path, teacher: str, manifest: Manifest, clips: torch.Tensor
) -> torch.Tensor:
    model = Classifier(build_backbone("small"), len(manifest.classes)).eval()
    path = work / finetuned(teacher) / CHECKPOINT
    load_model(path, model, backbone="small", classes=list(manifest.classes))
    with torch.no_grad():
        return model(clips).softmax(-1)


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
    rows = torch.from_numpy(config.labels.subset("all").rows(manifest))[:3]
    clips = torch.rand(3, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    invariant, distinctive = (
        probabilities(finished, name, manifest, clips) for name in ("invariant", "distinctive")
    )
    scores = read_similarity(finished / SIMILARITY, manifest)
    assert scores is not None
    if teachers == "stretched":
        known = scores.numpy()[config.labels.subset("all").rows(manifest)]
        scores = (scores - float(known.min())) / float(known.max() - known.min())
    share = scores[rows, None] if weight is None else weight
    wanted = share * invariant + (1 - share) * distinctive
    found = load_teachers(manifest, taught_by(config, teachers), finished, CPU).target(clips, rows)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert not found.requires_grad


def test_only_the_teachers_that_count_must_be_there(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "finetune-invariant").symlink_to(finished / "finetune-invariant")
    alone = load_teachers(manifest, taught_by(config, "invariant"), tmp_path, CPU)
    assert alone.networks[1] is None
    with pytest.raises(InputError, match=r"finetune-distinctive.*no such checkpoint"):
        load_teachers(manifest, taught_by(config, "equal"), tmp_path, CPU)
