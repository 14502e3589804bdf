"""Evaluations of trained classifiers: their files, and the record of readings."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from loaders import Subset, open_loader
from loaders.plan import stage_views
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.evaluate import evaluate
from tb.evaluation.held_out_readings import LOG, num_readings
from tb.method.baselines import supervised_only_stage
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.training.loop import train
from tests.tb.steps import StoppedError, stopping_at


def test_files_beside_an_evaluation_agree_with_it(
    finished: Path, manifest: Manifest, config: Config
) -> None:
    folder = finished / "student"
    result = evaluate("student", manifest, config, finished)
    with (folder / "classes-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(manifest.classes)
    assert [float(row["top1"]) for row in rows] == result.class_top1
    assert sum(int(row["num_videos"]) for row in rows) == result.num_videos
    with Image.open(folder / "confusion-test.png") as picture:
        assert picture.format == "PNG"
    (line,) = (folder / LOG).read_text().splitlines()
    entry = json.loads(line)
    assert (entry["what"], entry["split"], entry["top1"]) == ("eval", "test", result.top1)
    assert entry["checkpoint"] == result.source["checkpoint"]


def with_crops(config: Config, num_crops: int) -> Config:
    evaluation = config.evaluation.model_copy(update={"num_crops": num_crops})
    return config.model_copy(update={"evaluation": evaluation})


def test_the_split_is_read_once_and_further_looks_are_on_record(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "student"
    shutil.copytree(finished / "student", folder)
    before = (folder / "confusion-test.png").read_bytes()
    three = with_crops(config, 3)
    assert evaluate("student", manifest, config, tmp_path).num_peeks == 0
    with pytest.raises(InputError, match=r"was read on .* already.*--peek-test"):
        evaluate("student", manifest, three, tmp_path)
    assert num_readings(folder, "test") == 1
    for _ in range(2):  # the second call reads the first one's result
        assert evaluate("student", manifest, three, tmp_path, peek=True).num_peeks == 1
    assert num_readings(folder, "test") == 2
    assert evaluate("student", manifest, three, tmp_path, peek=True).num_readings == 2
    assert num_readings(folder, "val") == 0
    assert num_readings(tmp_path, "test") == 0
    # The reading that counted may be repeated; the record keeps the peek in between.
    assert evaluate("student", manifest, config, tmp_path).num_peeks == 1
    assert (folder / "confusion-test.png").read_bytes() == before


def test_what_cannot_change_the_result_is_no_other_reading(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    shutil.copytree(finished / "student", tmp_path / "student")
    evaluation = config.evaluation.model_copy(update={"batch_size": 1})
    smaller = config.model_copy(update={"evaluation": evaluation})
    assert evaluate("student", manifest, smaller, tmp_path).num_peeks == 0
    assert num_readings(tmp_path / "student", "test") == 1


def test_a_reading_that_was_cut_short_may_be_repeated(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    shutil.copytree(finished / "student", tmp_path / "student")
    (tmp_path / "student" / "eval-test.json").unlink()
    assert evaluate("student", manifest, config, tmp_path).num_peeks == 0


def test_only_a_peek_reads_before_training_is_over(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    optim = config.student.optim.model_copy(update={"steps": 40})
    longer = config.model_copy(
        update={"student": config.student.model_copy(update={"optim": optim})}
    )
    stage = supervised_only_stage(manifest, longer)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 3), tmp_path, longer)
    with pytest.raises(InputError, match="training stopped at step 2 of 40"):
        evaluate("supervised", manifest, longer, tmp_path)
    assert evaluate("supervised", manifest, longer, tmp_path, peek=True).num_peeks == 1
    train(supervised_only_stage(manifest, longer), tmp_path, longer)
    assert evaluate("supervised", manifest, longer, tmp_path).num_peeks == 1


def test_predictions_hold_every_test_video_once(
    finished: Path, manifest: Manifest, config: Config
) -> None:
    table = pq.read_table(finished / "student" / "predictions-test.parquet").to_pylist()
    keys = [manifest.keys[row] for row in manifest.indices("test")]
    assert sorted(row["key"] for row in table) == sorted(keys)
    result = evaluate("student", manifest, config, finished)
    hits = [int(np.argmax(row["probabilities"])) == row["label"] for row in table]
    assert result.top1 == pytest.approx(np.mean(hits))
    for row in table:
        assert math.isclose(sum(row["probabilities"]), 1, abs_tol=1e-5)


def test_a_second_call_reads_what_the_first_one_found(
    finished: Path, manifest: Manifest, config: Config
) -> None:
    path = finished / "student" / "eval-test.json"
    before = path.stat().st_mtime_ns
    evaluate("student", manifest, config, finished)
    assert path.stat().st_mtime_ns == before


def test_wrong_requests_are_named(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such checkpoint; train that stage first"):
        evaluate("student", manifest, config, tmp_path)
    settings = config.evaluation.model_copy(update={"split": "val"})
    with pytest.raises(InputError, match="no videos in split 'val'"):
        evaluate("student", manifest, config.model_copy(update={"evaluation": settings}), finished)
    with pytest.raises(InputError, match="a self-supervised checkpoint, which has no classes"):
        evaluate("invariant", manifest, config, finished)


def test_probabilities_are_those_of_an_independent_forward_pass(
    finished: Path, manifest: Manifest, config: Config
) -> None:
    """The network in eval mode, each clip by itself, softmax averaged over clips."""
    clips = config.classify.clips
    spec = stage_views.evaluation(
        num_frames=clips.num_frames, stride=clips.stride, size_px=clips.size_px, num_clips=2
    )
    loader = open_loader(
        manifest, spec, subset=Subset(split="test"), batch_size=1, shuffle=False, device="cpu"
    )
    model = Classifier(build_backbone("small"), 12)
    path = finished / "supervised" / "checkpoint.pt"
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    model.eval()
    table = pq.read_table(finished / "supervised" / "predictions-test.parquet").to_pylist()
    found = {row["key"]: row["probabilities"] for row in table}
    compared = set()
    for batch in loader.batches(0):
        with torch.no_grad():
            each = [model(clip[None]).softmax(-1)[0] for clip in batch.views["clips"][0, :, 0]]
        wanted = torch.stack(each).mean(0).tolist()
        assert found[batch.keys[0]] == pytest.approx(wanted, abs=1e-4)
        compared.add(batch.keys[0])
    assert compared == found.keys()
