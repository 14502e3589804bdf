"""Both teachers and their mixtures, judged on the training videos of a work folder.

The labelled videos are judged by cross-fitted probes (`tb.method.judged_videos`). For analysis, the
fine-tuned teachers can be judged on the unlabelled videos, by labels that training does not see. No
choice may depend on such a result. WORK/teachers.json records whether hidden labels were used.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from loaders import Part
from shards.errors import InputError
from shards.files.path_kinds import is_file
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.differences import Tree
from tb.config.sections import Config
from tb.evaluation.evaluate import evaluation_source
from tb.evaluation.reliability import ConfidenceBin, Reliability
from tb.method.calibration import (
    Calibration,
    calibrate,
    calibration_source,
    held_out_weights,
    rule_weights,
    weights_in_hindsight,
)
from tb.method.finetuned_teachers import videos_by_finetuned_teachers
from tb.method.judged_videos import JudgedVideos, held_out_videos
from tb.method.similarity_cache import cached_similarity
from tb.method.target_quality import (
    HINDSIGHT,
    ClassScores,
    ScoreBin,
    TargetQuality,
    target_quality,
)
from tb.stage_kinds import Teacher, TeacherWeights

INSPECTION = "teachers.json"


@dataclass(frozen=True, kw_only=True)
class TeacherInspection:
    """What `tb inspect teachers` finds.

    Attributes:
        hidden_labels: Whether any part used labels that training does not have.
        calibration: The map that a student with calibrated teachers gets.
        parts: The labelled videos if any can be judged, then the unlabelled ones if asked for.
        source: What all this depends on.
    """

    hidden_labels: bool
    calibration: Calibration
    parts: list[TargetQuality]
    source: Tree


def inspect_teachers(
    manifest: Manifest, config: Config, work: Path, *, with_hidden_labels: bool = False
) -> TeacherInspection:
    """Judges both teachers and their mixtures.

    Args:
        manifest: The data set.
        config: Labels, clips, seed.
        work: The work folder, with both self-supervised teachers.
        with_hidden_labels: Judge the fine-tuned teachers on the unlabelled videos too.

    Raises:
        InputError: A teacher is missing, unfinished or of another backbone; unlabelled videos are
            asked for, and there are none; or no video can be judged.
    """
    source = inspection_source(manifest, config, work, with_hidden_labels=with_hidden_labels)
    scores = cached_similarity(manifest, config, work)
    labelled = held_out_videos(manifest, config, work)
    num_labelled = len(config.labels.subset(Part.LABELLED).rows(manifest))
    calibration = calibrate(labelled, scores, num_labelled=num_labelled, source=source["labelled"])
    parts = []
    if len(labelled):
        weights = _weights(labelled, scores, calibration)
        if calibration.right:  # something was fitted
            weights[TeacherWeights.CALIBRATED] = held_out_weights(labelled, scores)
        parts.append(
            target_quality(
                labelled,
                weights,
                scores,
                manifest.classes,
                part=Part.LABELLED,
                judged_by=f"linear probes on frozen features, {calibration.num_folds} folds",
            )
        )
    if with_hidden_labels:
        hidden = videos_by_finetuned_teachers(manifest, config, work, Part.UNLABELLED)
        parts.append(
            target_quality(
                hidden,
                _weights(hidden, scores, calibration),
                scores,
                manifest.classes,
                part=Part.UNLABELLED,
                judged_by="the fine-tuned teachers",
            )
        )
    if not parts:
        raise InputError(
            f"{manifest.where}: no labelled video can be judged, because each is the only one of"
            " its class: give more labels, or judge the unlabelled videos for analysis"
            " (--with-hidden-labels)"
        )
    return TeacherInspection(
        hidden_labels=with_hidden_labels, calibration=calibration, parts=parts, source=source
    )


def _weights(
    videos: JudgedVideos, scores: Tensor, calibration: Calibration
) -> dict[str, np.ndarray]:
    """Rule of `TeacherWeights`, and `HINDSIGHT` -> (N,) weights of the invariant teacher."""
    weights = rule_weights(videos, scores, calibration.weight_map)
    return {**weights, HINDSIGHT: weights_in_hindsight(videos, scores)}


def inspection_source(
    manifest: Manifest, config: Config, work: Path, *, with_hidden_labels: bool
) -> Tree:
    """What an inspection depends on.

    Raises:
        InputError: A teacher is missing.
    """
    source: Tree = {"labelled": calibration_source(manifest, config, work)}
    if with_hidden_labels:
        source["unlabelled"] = {
            teacher.value: evaluation_source(work / teacher.finetuned, manifest, config)
            for teacher in Teacher
        }
    return source


def write_inspection(work: Path, inspection: TeacherInspection) -> None:
    """Writes WORK/teachers.json."""
    text = json.dumps(asdict(inspection), indent=1) + "\n"
    publish_bytes(work / INSPECTION, text.encode())


def read_inspection(work: Path) -> TeacherInspection | None:
    """What `write_inspection` wrote; None where there is none.

    Raises:
        InputError: The file is not readable, or of another version of this program.
    """
    path = work / INSPECTION
    if not is_file(path):
        return None
    try:
        tree = json.loads(path.read_bytes())
        calibration = Calibration(**tree.pop("calibration"))
        parts = [_part(part) for part in tree.pop("parts")]
        return TeacherInspection(calibration=calibration, parts=parts, **tree)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: not an inspection of this version ({error}); run `tb inspect teachers` again,"
            " or remove it"
        ) from error


def _part(tree: Tree) -> TargetQuality:
    curves = {
        name: Reliability(bins=[ConfidenceBin(**each) for each in curve["bins"]], ece=curve["ece"])
        for name, curve in tree.pop("reliability").items()
    }
    score_bins = [ScoreBin(**each) for each in tree.pop("score_bins")]
    classes = [ClassScores(**each) for each in tree.pop("classes")]
    return TargetQuality(score_bins=score_bins, classes=classes, reliability=curves, **tree)
