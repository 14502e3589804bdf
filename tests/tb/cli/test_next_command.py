"""Every command names the next one, which can be run as it stands."""

import shutil
from pathlib import Path

import pytest
from typer.core import TyperCommand
from typer.testing import CliRunner

from shards.format.manifest import Manifest
from tb.cli import app
from tb.config.load_config import load_config
from tb.weights.checkpoint import CHECKPOINT
from tests.tb.commands import every_command, next_command, run
from tests.tb.conftest import QUICK

_PLACES = "--shards {shards} --out {work}"
# Command -> (its words, the command that it names). Words in braces are paths.
NEXT = {
    "doctor": ("{videos}", "demo"),
    "shard folder": (
        "--root {videos} --out {shards} --min-per-class 1",
        "data verify {shards}",
    ),
    "data info": ("{shards}", "views --shards {shards} --out views.png"),
    "data verify": ("{shards}", "views --shards {shards} --out views.png"),
    "data ls": ("{shards} --split test", "data show {shards} {key}"),
    "data show": ("{shards} {key}", "views --shards {shards} --out views.png"),
    "views": ("{work} --out {new}.png --num-videos 1", "runs ls {work}"),
    "split": (
        "{shards} --fraction 50 --split pool --out {new}.txt",
        "train invariant --shards {shards} --out runs/shards --set labels.file={new}.txt"
        " --set labels.split=pool",
    ),
    "train invariant": (_PLACES, f"eval student {_PLACES}"),
    "train distinctive": (_PLACES, f"eval student {_PLACES}"),
    "train finetune": (f"--teacher invariant {_PLACES}", f"eval student {_PLACES}"),
    "train tclr": (_PLACES, f"eval student {_PLACES}"),
    # The work folder does not remember the settings of a variant.
    "train baseline": (
        f"fixmatch --name mine {_PLACES} --set labels.seed=1",
        f"eval mine {_PLACES} --set labels.seed=1",
    ),
    "train student": (_PLACES, f"eval student {_PLACES}"),
    "train supervised": (_PLACES, f"eval supervised {_PLACES}"),
    "train all": (_PLACES, "predict {work} VIDEO"),
    "eval": (f"supervised {_PLACES}", "predict {work}/supervised VIDEO"),
    "probe knn": (
        f"student --all-labels {_PLACES}",
        f"probe linear student {_PLACES} --all-labels",
    ),
    "probe linear": (f"student {_PLACES}", f"retrieve student {_PLACES}"),
    "retrieve": (f"student {_PLACES}", f"eval student {_PLACES}"),
    "report": (_PLACES, "predict {work} VIDEO"),
    "reproduce": (
        "table2 --out {new} --percents 50 --shards {shards} --dry-run",
        "reproduce table2 --dataset demo --seeds 1 --shards {shards} --percents 50 --out {new}",
    ),
    "predict": ("{work} {video}", "export {work}/student --out student.safetensors"),
    "export": ("{work}/student --out {new}.safetensors", "predict {new}.safetensors VIDEO"),
    "runs ls": ("{work}", "runs compare {work}/distinctive {work}/finetune-distinctive"),
    "runs show": ("{work}/student", "runs plot {work}/student --out loss.png"),
    "runs compare": (
        "{work}/student {work}/supervised",
        "runs plot {work}/student {work}/supervised --out loss.png",
    ),
    "runs plot": ("{work}/student --out {new}.png", "views {work} --out views.png"),
    "config show": (
        "demo --set labels.percent=5",
        "train all --shards SHARDS --out WORK --preset demo --set labels.percent=5",
    ),
    "config diff": ("{work} demo", "config show {work}"),
    "config presets": ("", "config show demo"),
}
# The tests of these look at this too; the other sources of `tb shard` end as folders do.
ELSEWHERE = {
    "demo",
    "inspect teachers",
    "train method",
    *(f"shard {source}" for source in ("csv", "ucf101", "hmdb51", "kinetics400")),
    *(f"data advise {one}" for one in ("folder", "csv", "ucf101", "hmdb51", "kinetics400")),
}


@pytest.fixture(scope="module")
def places(
    finished: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """Paths with a blank in them, which a shell would split."""
    folder = tmp_path_factory.mktemp("a place")
    shutil.copytree(finished, folder / "work")
    shutil.copytree(manifest.root, folder / "shards")
    videos = manifest.root.parent / "videos"
    row = manifest.video(int(manifest.indices("test")[0]))
    return {
        "work": folder / "work",
        "shards": folder / "shards",
        "videos": videos,
        "video": videos / row.source,
        "key": row.key,
        "new": folder / "new",
    }


def test_the_table_has_every_command() -> None:
    assert {name for name, _ in every_command()} == NEXT.keys() | ELSEWHERE


@pytest.mark.parametrize("name", NEXT)
def test_the_next_command_is_named_and_can_be_parsed(
    name: str, places: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, expected = ([word.format(**places) for word in text.split()] for text in NEXT[name])
    found = next_command(*name.split(), *words)
    assert found == expected
    parsed = []
    monkeypatch.setattr(TyperCommand, "invoke", lambda self, ctx: parsed.append(ctx.params))
    done = CliRunner().invoke(app, found, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(parsed) == 1


def test_after_a_plot_only_a_work_folder_is_named_for_views(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "loss.png"
    monkeypatch.chdir(finished / "student")
    views = ["views", str(finished), "--out", "views.png"]
    assert next_command("runs", "plot", ".", "--out", picture) == views
    shutil.copytree(finished / "student", tmp_path / "alone")
    monkeypatch.chdir(tmp_path)
    assert next_command("runs", "plot", "alone", "--out", picture) == ["runs", "show", "alone"]


def test_a_damaged_file_of_another_stage_does_not_make_a_command_fail(
    finished: Path, manifest: Manifest, tmp_path: Path
) -> None:
    for stage in ("invariant", "student"):
        shutil.copytree(finished / stage, tmp_path / stage)
    shutil.copy(finished / "config.yaml", tmp_path)
    (tmp_path / "student" / CHECKPOINT).write_bytes(b"damaged")
    done = run("train", "invariant", "--shards", manifest.root, "--out", tmp_path)
    assert "Next: " not in done.stderr


def test_an_export_has_the_whole_name_of_its_stage(
    places: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "student-0.5"
    shutil.copytree(f"{places['work']}/student", folder)
    monkeypatch.chdir(folder)
    for given in (folder, "."):
        words = next_command("predict", given, places["video"])
        assert words == ["export", str(given), "--out", "student-0.5.safetensors"]


def test_a_backbone_without_a_classifier_is_not_asked_for_classes(
    places: dict[str, object], tmp_path: Path
) -> None:
    done = run("export", f"{places['work']}/invariant", "--out", tmp_path / "new.safetensors")
    assert "no classifier" in done.stdout
    assert "Next: " not in done.stderr


def test_the_way_from_videos_to_an_answer_can_be_walked(
    places: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = [word for text in QUICK for word in ("--set", text)]
    words = ["shard", "folder", "--root", str(places["videos"]), "--out", "my data"]
    walked = []
    while words[0] != "export":
        walked.append(" ".join(words).partition(" --")[0])
        if walked[-1] == "train invariant":
            words += ["--preset", "demo", *quick]
        words = next_command(*(places["video"] if word == "VIDEO" else word for word in words))
    assert walked == [
        "shard folder",
        "data verify my data",
        "views",
        "train invariant",
        "train distinctive",
        "train finetune",
        "train finetune",
        "train student",
        "eval student",
        "predict runs/my data/student VIDEO",
    ]


@pytest.mark.parametrize("name", ["list #1.txt", "a: b.txt", "Läufe 🏃 #2.txt"])
def test_a_setting_with_a_path_that_yaml_would_cut_is_read_whole(
    name: str, places: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / name
    words = next_command("split", places["shards"], "--fraction", 50, "--out", path)
    config = load_config(None, [words[words.index("--set") + 1]])
    assert config.labels.file == str(path)
