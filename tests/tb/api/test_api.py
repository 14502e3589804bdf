"""The Python API, end to end on tiny shards: the same results as the commands."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tb
from loaders import Subset, open_loader
from loaders.plan import stage_views
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.load_config import dump_yaml
from tb.config.sections import Config
from tb.stage_kinds import COMPARED, Teacher
from tb.tables.published import TABLES
from tb.weights.checkpoint import CHECKPOINT, file_digest
from tests.make_videos import make_video
from tests.tb import commands
from tests.tb.conftest import QUICK


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A work folder in which every stage has run."""
    shutil.copytree(finished, tmp_path / "work")
    return tmp_path / "work"


def test_shard_writes_what_the_command_writes(manifest: Manifest, tmp_path: Path) -> None:
    videos = manifest.root.parent / "videos"
    report = tb.shard(videos / "train", out=tmp_path / "one", short_side=64, seed=3)
    assert (report.num_videos, report.num_skipped) == (24, 0)
    options = ("--root", videos / "train", "--out", tmp_path / "two", "--short-side", 64)
    assert f"digest  {report.digest}" in commands.tb("shard", "folder", *options, "--seed", 3)
    one, two = (
        {path.name: file_digest(path) for path in (tmp_path / name).glob("*.tar")}
        for name in ("one", "two")
    )
    assert one == two != {}


def test_train_ends_with_the_command_s_weights(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    path = tb.train("supervised", shards=manifest.root, out=tmp_path, preset="demo", settings=QUICK)
    assert path == tmp_path / "supervised" / CHECKPOINT
    assert file_digest(path) == file_digest(finished / "supervised" / CHECKPOINT)
    # The work folder remembers its settings.
    assert (tmp_path / "config.yaml").read_text() == dump_yaml(config)
    variant = tb.train(
        "pseudo-label", shards=manifest.root, out=tmp_path, settings=["labels.seed=1"], name="other"
    )
    assert variant == tmp_path / "other" / CHECKPOINT


def test_all_trains_evaluates_and_reports(manifest: Manifest, work: Path) -> None:
    shards = manifest.root
    (work / "report.html").unlink(missing_ok=True)
    assert tb.train("all", shards=shards, out=work) == work / "report.html"
    result = json.loads((work / "result.json").read_text())
    assert result["student_top1"] == tb.evaluate("student", shards=shards, out=work).top1
    assert tb.report(shards=shards, out=work) == work / "report.html"
    printed = commands.tb("eval", "student", "--shards", shards, "--out", work)
    assert f"student: top-1 {result['student_top1']:.1%}" in printed


def test_probes_return_what_they_write(manifest: Manifest, work: Path) -> None:
    places = {"shards": manifest.root, "out": work}
    knn = tb.knn_probe("distinctive", **places, k=3)
    linear = tb.linear_probe("distinctive", **places)
    found = tb.retrieve("distinctive", **places)
    folder = work / "distinctive"
    for name, value in (
        ("probe-knn-test", knn.top1),
        ("probe-linear-test", linear.top1),
    ):
        assert json.loads((folder / f"{name}.json").read_text())["top1"] == value
    assert json.loads((folder / "retrieval-test.json").read_text())["recall"] == found.recall
    assert isinstance(found, tb.Retrieval)


@pytest.mark.parametrize("stage", COMPARED)
def test_a_loaded_classifier_predicts_as_the_evaluation_does(
    manifest: Manifest, config: Config, work: Path, tmp_path: Path, stage: str
) -> None:
    result = tb.evaluate(stage, shards=manifest.root, out=work)
    export = tmp_path / "weights.safetensors"
    assert tb.export(work / stage, out=export)["stage"] == stage
    clips = config.classify.clips
    spec = stage_views.evaluation(
        num_frames=clips.num_frames, stride=clips.stride, size_px=clips.size_px, num_clips=2
    )
    loader = open_loader(
        manifest, spec, subset=Subset(split="test"), batch_size=4, shuffle=False, device="cpu"
    )
    for path in (work / stage, work / stage / CHECKPOINT, export):
        classifier = tb.load_classifier(path, device="cpu")
        assert classifier.classes == tuple(manifest.classes)
        assert not classifier.training
        hits = []
        for batch in loader.batches(0):
            each = classifier(batch.views["clips"].flatten(0, 2))
            assert each.shape[1] == len(classifier.classes)
            assert torch.allclose(each.sum(1), torch.ones(len(each)))
            assert not each.requires_grad
            means = each.view(len(batch.keys), -1, each.shape[1]).mean(1)
            hits += (means.argmax(1) == batch.labels).tolist()
        assert sum(hits) / len(hits) == pytest.approx(result.top1)


def test_what_is_no_classifier_is_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without classes; fine-tune it first"):
        tb.load_classifier(work / "invariant")
    tb.export(work / "invariant", out=tmp_path / "trunk.safetensors")
    with pytest.raises(InputError, match="without classes; fine-tune it first"):
        tb.load_classifier(tmp_path / "trunk.safetensors")
    with pytest.raises(InputError, match="no such checkpoint"):
        tb.load_classifier(tmp_path / "none.pt")
    with pytest.raises(InputError, match="no such file; make it with `tb export`"):
        tb.load_classifier(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        tb.load_classifier(tmp_path / "bad.safetensors")
    for metadata in ({"backbone": "small"}, {"backbone": "small", "classes": "a, b"}):
        save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors", metadata)
        with pytest.raises(InputError, match="does not name its backbone and classes"):
            tb.load_classifier(tmp_path / "other.safetensors")


def test_a_table_is_reproduced_in_python_too(manifest: Manifest, tmp_path: Path) -> None:
    quick = tuple(text for text in QUICK if not text.startswith("labels.percent"))
    wanted = tb.Reproduction(
        table="table2", rows=("supervised",), percents=(50.0,), overrides=quick
    )
    path = tb.reproduce(wanted, out=tmp_path, shards=manifest.root)
    assert path == tmp_path / "results.md"
    assert "supervised only" in path.read_text()
    assert (
        "tb reproduce table2 --dataset demo --seeds 1 --shards SHARDS --rows supervised"
        in path.read_text()
    )
    assert {row.name for row in TABLES["table2"]} > {"supervised"}


def test_the_command_of_an_own_preset_names_no_backbone(manifest: Manifest, tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("base: demo\n")
    wanted = tb.Reproduction(
        table="table2", dataset=str(preset), rows=("supervised",), overrides=QUICK[1:]
    )
    page = tb.reproduce(wanted, out=tmp_path / "out", shards=manifest.root).read_text()
    assert f"tb reproduce table2 --dataset {preset} --seeds 1 --shards SHARDS --rows" in page
    assert "--backbone" not in page


def test_options_that_mean_nothing_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    places = {"shards": manifest.root, "out": tmp_path}
    with pytest.raises(InputError, match="only 'all' has stages to run side by side"):
        tb.train("student", **places, jobs=2)
    with pytest.raises(InputError, match="init and name are for a single stage"):
        tb.train("all", **places, name="mine")
    with pytest.raises(
        InputError,
        match=r"name \(--name\) is for the student and the semi-supervised baselines only",
    ):
        tb.train("invariant", **places, name="mine")
    with pytest.raises(InputError, match=r"init \(--init\) is for fine-tuning"):
        tb.train("student", **places, init="weights.pt")
    with pytest.raises(InputError, match="the preset of 'demo' names its own"):
        tb.Reproduction(table="main", dataset="demo", backbone="r18").grid()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tb.nothing  # noqa: B018


def test_views_runs_and_settings_are_those_of_the_commands(
    manifest: Manifest, work: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    sheet = {"preset": "demo", "settings": QUICK, "num_videos": 1}
    assert tb.views(shards=manifest.root, out=one, **sheet) == one
    words = [word for text in QUICK for word in ("--set", text)]
    places = ("--shards", manifest.root, "--out", two)
    commands.tb("views", *places, "--preset", "demo", "--num-videos", 1, *words)
    assert one.read_bytes() == two.read_bytes()
    runs = tb.find_runs(work)
    assert {run.folder.name for run in runs} == {*COMPARED, *(x.pretrained for x in Teacher)}
    assert tb.read_run(work / "student") in runs
    found = tb.compare_runs(work / "student", work / "supervised")
    assert found.names == ("student", "supervised")
    assert found.settings == []
    assert found.metrics["L_unsup"][1] is None
    assert tb.plot_runs(work / "student", out=one, metric="loss") == one
    assert tb.show_settings("demo") == commands.tb("config", "show", "demo")
    changed = tb.compare_settings("demo", work)
    assert ("labels.percent", 10.0, 50.0) in changed
    assert "demo" in tb.preset_names()


def test_views_of_a_work_folder_have_its_settings_and_its_data(
    manifest: Manifest, work: Path, tmp_path: Path
) -> None:
    one, two, other = tmp_path / "one.png", tmp_path / "two.png", tmp_path / "other.png"
    commands.tb("views", work, "--out", one, "--num-videos", 1)
    tb.views(shards=manifest.root, out=two, preset=work / "config.yaml", num_videos=1)
    assert one.read_bytes() == two.read_bytes()
    commands.tb("views", work, "--out", other, "--num-videos", 1, "--set", "machine.seed=1")
    assert one.read_bytes() != other.read_bytes()


def test_views_of_a_work_folder_are_the_same_after_videos_were_added(
    manifest: Manifest, work: Path, tmp_path: Path
) -> None:
    shards, before, after = tmp_path / "shards", tmp_path / "before.png", tmp_path / "after.png"
    shutil.copytree(manifest.root, shards)
    data = {"shards": str(shards), "digest": manifest.digest}
    (work / "data.json").write_text(json.dumps(data))
    tb.views(work, out=before, num_videos=2)
    make_video(tmp_path / "more" / "train" / "ring" / "new.mp4")
    added = ingest(from_folder(tmp_path / "more", min_per_class=1), shards, append=True)
    assert added.num_added == 1
    tb.views(work, out=after, num_videos=2)
    assert after.read_bytes() == before.read_bytes()


def test_views_of_a_work_folder_whose_data_is_not_there(
    manifest: Manifest, work: Path, tmp_path: Path
) -> None:
    copy, out = tmp_path / "copy", tmp_path / "views.png"
    copy.mkdir()
    (copy / "config.yaml").write_bytes((work / "config.yaml").read_bytes())

    def complaint_with(data: str) -> str:
        (copy / "data.json").write_text(data)
        message = commands.complaint("views", copy, "--out", out)
        assert "name the shards (--shards)" in message
        return message

    assert "does not say where the shards are" in complaint_with("[]")
    gone = {"shards": str(tmp_path / "gone"), "digest": manifest.digest}
    assert f"{tmp_path / 'gone'}: no such folder" in complaint_with(json.dumps(gone))
    changed = {"shards": str(manifest.root), "digest": "0" * 64}
    assert f"has no state {'0' * 64}" in complaint_with(json.dumps(changed))
    assert "give a work folder, or name" in commands.complaint("views", "--out", out)
    commands.tb("views", copy, "--shards", manifest.root, "--out", out, "--num-videos", 1)
