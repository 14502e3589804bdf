"""What `tb eval`, `tb probe`, `tb retrieve` and `tb export` print, and which options they take."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open

from shards.format.manifest import Manifest
from tb.config.load_config import remember_config
from tb.config.sections import Config
from tb.evaluation.accuracy import read_evaluation
from tests.tb.commands import complaint, tb


@pytest.fixture
def work(finished: Path, config: Config, tmp_path: Path) -> Path:
    """A work folder with a teacher and a student, to write into."""
    for stage in ("distinctive", "student"):
        shutil.copytree(finished / stage, tmp_path / stage)
    remember_config(tmp_path, config)
    return tmp_path


def test_eval_names_the_worst_classes_and_counts_the_looks(work: Path, manifest: Manifest) -> None:
    common = ("eval", "student", "--shards", manifest.root, "--out", work)
    out = tb(*common)
    result = read_evaluation(work / "student" / "eval-test.json")
    assert result is not None
    lines = out.splitlines()
    assert lines[0].startswith(f"student: top-1 {result.top1:.1%}")
    assert [line.split()[0] for line in lines[1:13]] == sorted(
        manifest.classes, key=lambda name: result.class_top1[manifest.classes.index(name)] or 0.0
    )
    assert lines[13] == f"see {work}/student/classes-test.csv, confusion-test.png"
    assert "looked at" not in out
    other = (*common, "--set", "evaluation.num_clips=1")
    assert "(--peek-test) reads them again" in complaint(*other)
    again = tb(*other, "--peek-test")
    assert "note: split 'test' was looked at 2 times with this stage" in again


def test_probes_and_retrieval(work: Path, manifest: Manifest) -> None:
    common = ("distinctive", "--shards", manifest.root, "--out", work)
    out = tb("probe", "knn", *common, "--k", 3, "--temperature", 0.5, "--all-labels")
    result = read_evaluation(work / "distinctive" / "probe-knn-test.json")
    assert result is not None
    assert out.splitlines()[-1] == (
        f"distinctive, 3-NN: top-1 {result.top1:.1%}, top-5 {result.top5:.1%} of 12 videos of"
        " split 'test' (chance 8.3%)"
    )
    options = ("k", "temperature", "all_labels")
    assert [result.source[name] for name in options] == [3, 0.5, True]
    assert "distinctive, linear probe: top-1" in tb("probe", "linear", *common, "--l2", 0.1)
    result = read_evaluation(work / "distinctive" / "probe-linear-test.json")
    assert result is not None
    assert (result.source["l2"], result.source["all_labels"]) == (0.1, False)
    assert "R@50 100.0%; 12 videos of split 'test' among 24" in tb("retrieve", *common)


def test_export(work: Path, manifest: Manifest) -> None:
    path = work / "student.safetensors"
    out = tb("export", work / "student", "--out", path)
    assert out == f"{path}: small from stage student, classifier of 12 classes\n"
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(manifest.classes)
    path = work / "backbone.safetensors"
    out = tb("export", work / "distinctive" / "checkpoint.pt", "--out", path)
    assert out == f"{path}: small from stage distinctive, no classifier\n"


def test_refusals(work: Path) -> None:
    message = complaint("export", work / "student", "--out", work / "student.pt")
    assert message == f"{work}/student.pt: name it *.safetensors"
