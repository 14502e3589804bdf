"""The inspection of a work folder's teachers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import Part, open_loader
from loaders.plan import stage_views
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.calibration import HELD_OUT
from tb.method.target_quality import HINDSIGHT
from tb.method.teacher_inspection import (
    INSPECTION,
    inspect_teachers,
    read_inspection,
    write_inspection,
)
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.stage_kinds import Teacher, TeacherWeights
from tb.weights.checkpoint import CHECKPOINT, load_model


def test_both_parts_are_judged_and_said_by_whom(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    found = inspect_teachers(manifest, many_labels, taught, with_hidden_labels=True)
    labelled, unlabelled = found.parts
    assert (labelled.part, labelled.num_videos, labelled.hidden_labels) == ("labelled", 20, False)
    assert "probes" in labelled.judged_by
    # The map that judges a fold was fitted to the others, as in the student's own record.
    assert labelled.right["calibrated"] == found.calibration.right[HELD_OUT]
    for rule in (TeacherWeights.SIMILARITY, TeacherWeights.EQUAL, *Teacher):
        assert labelled.right[rule] == found.calibration.right[rule]
    assert (unlabelled.part, unlabelled.num_videos) == ("unlabelled", 4)
    assert unlabelled.hidden_labels
    assert found.hidden_labels
    assert sum(each.num_videos for each in unlabelled.classes) == 4
    # No constant, no other map and not the paper's rule fits the labels of a part better.
    for part in found.parts:
        likely = part.log_likelihood
        assert max(likely, key=likely.__getitem__) == HINDSIGHT or likely[HINDSIGHT] == (
            pytest.approx(max(likely.values()), abs=2e-3)
        )
    assert unlabelled.log_likelihood[HINDSIGHT] > unlabelled.log_likelihood["calibrated"]


def test_hidden_labels_are_used_only_on_request(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    for teacher in Teacher:  # the fine-tuned teachers are not even needed
        (taught / teacher.finetuned).unlink()
    found = inspect_teachers(manifest, many_labels, taught)
    assert [part.part for part in found.parts] == ["labelled"]
    assert not found.hidden_labels
    with pytest.raises(InputError, match=r"finetune-invariant.*no such checkpoint"):
        inspect_teachers(manifest, many_labels, taught, with_hidden_labels=True)


def test_the_fine_tuned_teachers_are_judged_on_the_unlabelled_videos(
    manifest: Manifest, config: Config, taught: Path
) -> None:
    """Against an independent pass, one video after the other. No labelled one can be judged."""
    found = inspect_teachers(manifest, config, taught, with_hidden_labels=True)
    (part,) = found.parts
    clips = config.classify.clips
    spec = stage_views.evaluation(
        num_frames=clips.num_frames, stride=clips.stride, size_px=clips.size_px, num_clips=2
    )
    subset = config.labels.subset(Part.UNLABELLED)
    with open_loader(
        manifest, spec, subset=subset, batch_size=1, shuffle=False, device="cpu"
    ) as loader:
        batches = list(loader.batches(0))
    rows = [int(batch.plan.rows[0]) for batch in batches]
    assert part.num_videos == len(rows) == 12
    for teacher in Teacher:
        model = Classifier(build_backbone("small"), len(manifest.classes)).eval()
        path = taught / teacher.finetuned / CHECKPOINT
        load_model(path, model, classes=list(manifest.classes), normalization=None)
        logs = []
        for batch, row in zip(batches, rows, strict=True):
            with torch.no_grad():
                each = [model(clip[None]).softmax(-1)[0] for clip in batch.views["clips"][0, :, 0]]
            logs.append(np.log(torch.stack(each).mean(0)[manifest.labels[row]].item()))
        assert part.log_likelihood[teacher.value] == pytest.approx(np.mean(logs), rel=1e-4)


def test_one_label_a_class_cannot_be_judged(
    manifest: Manifest, config: Config, taught: Path
) -> None:
    with pytest.raises(InputError, match=r"no labelled video can be judged.*--with-hidden-labels"):
        inspect_teachers(manifest, config, taught)


def test_the_file_holds_everything(manifest: Manifest, many_labels: Config, taught: Path) -> None:
    assert read_inspection(taught) is None
    found = inspect_teachers(manifest, many_labels, taught, with_hidden_labels=True)
    write_inspection(taught, found)
    assert read_inspection(taught) == found
    tree = json.loads((taught / INSPECTION).read_text())
    assert tree["hidden_labels"] is True
    assert [part["hidden_labels"] for part in tree["parts"]] == [False, True]
    del tree["parts"][0]["order"]
    for text in ("", "[]", json.dumps(tree)):
        (taught / INSPECTION).write_text(text)
        with pytest.raises(InputError, match=r"teachers\.json: not an inspection of this version"):
            read_inspection(taught)
