"""The calibrated weights of a work folder."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from loaders import Part
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from tb.config.load_config import dump_yaml, load_config
from tb.config.sections import Config
from tb.evaluation.features import Features, labelled_features
from tb.method.calibration import (
    CALIBRATION,
    HELD_OUT,
    MIN_VIDEOS,
    Calibration,
    cached_calibration,
    calibrate,
    held_out_weights,
    read_calibration,
)
from tb.method.judged_videos import JudgedVideos, held_out_videos
from tb.method.similarity_cache import SIMILARITY, cached_similarity, read_similarity
from tb.method.stages import build_stage
from tb.method.teachers import load_teachers
from tb.stage_kinds import SELF_SUPERVISED, StageKind, Teacher, TeacherWeights
from tb.training.loop import train
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint
from tests.tb.calibrations import calibration
from tests.tb.commands import tb
from tests.tb.conftest import QUICK
from tests.tb.pair import start_pair
from tests.tb.steps import StoppedError, stopping_at


def calibrated(manifest: Manifest, config: Config, work: Path, name: str) -> Calibration:
    """The map of the student in WORK/NAME."""
    scores = cached_similarity(manifest, config, work)
    return cached_calibration(manifest, config, work, work / name, scores)


def test_the_map_is_at_least_as_likely_as_every_other_rule(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    found = calibrated(manifest, many_labels, taught, "student")
    assert (found.num_videos, found.num_left_out, found.num_folds) == (20, 0, 5)
    values = found.log_likelihood
    assert set(values) == set(found.right) == {*TeacherWeights, HELD_OUT} - {"oracle"}
    for rule in ("similarity", "equal"):
        assert values["calibrated"] >= values[rule] - 1e-6
    # The weight stays within 0.001 and 0.999, so that one teacher alone may be a little likelier.
    for teacher in Teacher:
        assert values["calibrated"] >= values[teacher.value] - 2e-3
    assert read_calibration(taught / "student") == found


def test_the_student_gets_the_map_s_weights(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    teachers = load_teachers(manifest, many_labels, taught, torch.device("cpu"), name="other")
    found = read_calibration(taught / "other")
    scores = read_similarity(taught / SIMILARITY, manifest)
    assert found is not None
    assert scores is not None
    rows = torch.from_numpy(manifest.indices("train"))
    logits = torch.logit(scores[rows].double().clamp(0.001, 0.999))
    wanted = torch.sigmoid(found.offset + found.slope * logits)
    torch.testing.assert_close(teachers.invariant_weight[rows], wanted.float())
    assert teachers.source["calibration"]["offset"] == found.offset


def test_labels_of_unlabelled_videos_have_no_influence(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    unlabelled = many_labels.labels.subset(Part.UNLABELLED).rows(manifest)
    labels = manifest.labels.copy()
    labels[unlabelled] = labels[unlabelled[::-1]]
    assert not np.array_equal(labels, manifest.labels)
    place = manifest.table.schema.get_field_index("label")
    column = pa.array(labels, manifest.table.schema.field(place).type)
    other = replace(manifest, table=manifest.table.set_column(place, "label", column))
    one, two = (
        calibrated(each, many_labels, taught, name)
        for each, name in ((manifest, "one"), (other, "two"))
    )
    assert one == two
    assert (taught / "one" / CALIBRATION).read_bytes() == (
        taught / "two" / CALIBRATION
    ).read_bytes()


def test_other_labels_give_another_map(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    """Beside the last test: the labels of labelled videos do matter, and no stale map is used."""
    before = calibrated(manifest, many_labels, taught, "student")
    everything = load_config("demo", [*QUICK, "labels.percent=100"])
    after = calibrated(manifest, everything, taught, "student")
    assert after.num_videos == 24
    assert after.source["labelled"] != before.source["labelled"]
    assert read_calibration(taught / "student") == after


def test_one_label_a_class_is_too_few(
    manifest: Manifest, config: Config, taught: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = calibrated(manifest, config, taught, "student")
    assert (found.offset, found.slope, found.num_videos, found.num_left_out) == (0.0, 0.0, 0, 12)
    assert f"0 of 12 labelled videos can be judged, and {MIN_VIDEOS} are needed" in caplog.text
    assert found.warning in caplog.text
    assert found.log_likelihood == {}


def made_up(
    scores: np.ndarray, is_invariant_right: np.ndarray
) -> tuple[JudgedVideos, torch.Tensor]:
    """Videos of two classes on which one teacher is right and the other is wrong."""
    num_videos = len(scores)
    labels = np.arange(num_videos) // 2 % 2
    rng = np.random.default_rng(0)

    def says(is_right: np.ndarray) -> np.ndarray:
        of_label = np.where(is_right, rng.uniform(0.7, 0.9, num_videos), rng.uniform(0.1, 0.3))
        found = np.empty((num_videos, 2))
        found[np.arange(num_videos), labels] = of_label
        found[np.arange(num_videos), 1 - labels] = 1 - of_label
        return found

    videos = JudgedVideos(
        rows=np.arange(num_videos),
        labels=labels,
        folds=np.arange(num_videos) % 5,
        invariant=says(is_invariant_right),
        distinctive=says(~is_invariant_right),
    )
    return videos, torch.from_numpy(scores).float()


def test_where_each_teacher_knows_what_the_other_does_not_the_mixture_beats_both() -> None:
    """Also on the folds that its map was not fitted to. The raw scores are right in order only."""
    rng = np.random.default_rng(1)
    is_invariant_right = rng.random(100) < 0.4
    scores = np.where(is_invariant_right, 0.9, 0.7) + rng.uniform(-0.08, 0.08, 100)
    videos, scores = made_up(scores, is_invariant_right)
    found = calibrate(videos, scores, num_labelled=100, source={})
    for measured in (found.right, found.log_likelihood):
        for rule in ("invariant", "distinctive", "equal", "similarity"):
            assert measured[HELD_OUT] > measured[rule] + 0.2
    assert found.right["similarity"] == found.right["invariant"]  # no score is below one half
    assert found.warning == ""


def test_scores_that_say_nothing_give_a_constant_and_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    videos, scores = made_up(np.full(50, 0.8), np.arange(50) % 5 == 0)
    found = calibrate(videos, scores, num_labelled=50, source={})
    assert found.slope == 0
    assert found.weight_map(scores)[0] < 0.5  # the distinctive teacher is right more often
    assert "the weight is the same for all videos" in caplog.text


def test_a_fold_s_weights_do_not_know_its_labels() -> None:
    is_invariant_right = np.arange(50) % 3 == 0
    videos, scores = made_up(np.linspace(0.5, 0.9, 50), is_invariant_right)
    before = held_out_weights(videos, scores)
    in_fold = videos.folds == 2
    other = replace(videos, labels=np.where(in_fold, 1 - videos.labels, videos.labels))
    after = held_out_weights(other, scores)
    assert np.array_equal(after[in_fold], before[in_fold])
    assert not np.array_equal(after[~in_fold], before[~in_fold])


def test_videos_without_a_score_take_no_part() -> None:
    videos, scores = made_up(np.linspace(0.6, 0.9, 40), np.arange(40) % 2 == 0)
    scores[3] = float("nan")
    found = calibrate(videos, scores, num_labelled=42, source={})
    assert (found.num_videos, found.num_left_out) == (39, 3)
    without = calibrate(videos.where(np.arange(40) != 3), scores, num_labelled=42, source={})
    assert without == found
    # The inspection shows them all the same: with half the weight, and the others as before.
    weights = held_out_weights(videos, scores)
    known = np.arange(40) != 3
    assert weights[3] == 0.5
    assert np.array_equal(weights[known], held_out_weights(videos.where(known), scores))


def test_a_video_that_one_teacher_could_not_read_is_left_out(
    manifest: Manifest, many_labels: Config, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the predictions of one teacher would belong to other videos than those of the other."""
    everything = held_out_videos(manifest, many_labels, taught)
    place = 7

    def failing_for(*stages: str) -> JudgedVideos:
        def read(stage: str, *words: Any) -> Features:
            found = labelled_features(stage, *words)
            kept = np.arange(len(found.rows)) != place
            if stage not in stages:
                return found
            return Features(
                rows=found.rows[kept], vectors=found.vectors[kept], labels=found.labels[kept]
            )

        monkeypatch.setattr("tb.method.judged_videos.labelled_features", read)
        return held_out_videos(manifest, many_labels, taught)

    one, both = failing_for(Teacher.INVARIANT.pretrained), failing_for(*SELF_SUPERVISED)
    # The other labelled video of its class is now the only one, and cannot be judged either.
    assert len(one) == len(everything) - 2
    assert everything.rows[place] not in one.rows
    for name in ("rows", "labels", "folds", "invariant", "distinctive"):
        assert np.array_equal(getattr(one, name), getattr(both, name))


def stopped(manifest: Manifest, config: Config, taught: Path) -> None:
    """A student that was stopped after its first checkpoint."""
    stage = stopping_at(build_stage(StageKind.STUDENT, manifest, config, taught), 4)
    with pytest.raises(StoppedError):
        train(stage, taught, config)


def test_a_run_goes_on_under_the_map_that_it_began_with(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    stopped(manifest, many_labels, taught)
    path = taught / "student" / CALIBRATION
    before = path.read_bytes()
    found = read_calibration(taught / "student")
    assert found is not None
    settings = json.loads(load_checkpoint(taught / "student" / CHECKPOINT)["settings"])
    assert settings["teachers"]["calibration"] == found.identity

    # The same labels, but other clips of them: another map, so another run.
    evaluation = many_labels.evaluation.model_copy(update={"num_clips": 1})
    other = many_labels.model_copy(update={"evaluation": evaluation})
    with pytest.raises(InputError, match=r"teachers\.calibration\..*num_clips was 2, now 1"):
        train(build_stage(StageKind.STUDENT, manifest, other, taught), taught, other)
    assert path.read_bytes() == before

    train(build_stage(StageKind.STUDENT, manifest, many_labels, taught), taught, many_labels)
    assert path.read_bytes() == before
    shown = tb("runs", "show", taught / "student")
    assert f"the invariant teacher's weight: {found.formula}" in shown


def test_the_file_is_the_map_not_a_new_fit(
    manifest: Manifest, many_labels: Config, taught: Path
) -> None:
    """On another machine a fit could differ in its last digits."""
    calibrated(manifest, many_labels, taught, "student")
    path = taught / "student" / CALIBRATION
    path.write_text(json.dumps({**json.loads(path.read_text()), "offset": -0.123456789}))
    found = calibrated(manifest, many_labels, taught, "student")
    assert found.offset == -0.123456789


def print_teachers(shards: Path, work: Path, settings: Path) -> None:
    manifest, config = read_manifest(shards), load_config(settings)
    found = load_teachers(manifest, config, work, torch.device("cpu"))
    print(found.source["calibration"]["offset"], found.invariant_weight.sum().item())


@pytest.mark.slow
def test_of_two_processes_one_fits(
    manifest: Manifest, many_labels: Config, taught: Path, tmp_path: Path
) -> None:
    settings = taught.parent / "settings.yaml"
    settings.write_text(dump_yaml(many_labels))
    pair = start_pair(tmp_path, print_teachers, manifest.root, taught, settings)
    found = [rank.finish() for rank in pair]
    assert [code for code, _, _ in found] == [0, 0], found
    (_, first, first_error), (_, second, second_error) = found
    assert first == second != ""
    assert "labelled features" in first_error
    assert "labelled features" not in second_error


def test_numbers_that_are_none_are_refused(
    manifest: Manifest, config: Config, taught: Path
) -> None:
    calibrated(manifest, config, taught, "student")
    path = taught / "student" / CALIBRATION
    path.write_text(json.dumps({**json.loads(path.read_text()), "slope": "steep"}))
    with pytest.raises(InputError, match=r"not a calibration of this version.*'steep'"):
        read_calibration(taught / "student")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"offset": 1}'])
def test_a_broken_file_is_named(
    manifest: Manifest, many_labels: Config, taught: Path, text: str
) -> None:
    path = taught / "student" / CALIBRATION
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match=r"calibration\.json: not a calibration.*remove it"):
        calibrated(manifest, many_labels, taught, "student")


def test_a_missing_teacher_is_named(manifest: Manifest, many_labels: Config, taught: Path) -> None:
    (taught / "invariant").unlink()
    with pytest.raises(InputError, match=r"invariant.*no such checkpoint"):
        calibrated(manifest, many_labels, taught, "student")


def test_the_formula_is_readable() -> None:
    found = calibration(offset=-2.322, slope=0.728)
    assert found.formula == "sigmoid(-2.32 + 0.73 logit(s))"
