"""The command line as a user meets it: processes, exit codes, one-line complaints."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from shards.format.manifest import Manifest
from tb.cli import PANELS
from tb.config.load_config import dump_yaml, load_config
from tests.make_videos import make_video
from tests.tb.commands import complaint, every_command, tb


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tb.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["tb", "tb.cli", "shards", "loaders"])
def test_imports_stay_light(module: str) -> None:
    heavy = {"torch", "torchvision", "av", "pyarrow", "numba", "matplotlib", "pydantic"}
    code = f"import {module}, sys; print(sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_is_in_the_order_of_the_work() -> None:
    done = process("--help")
    assert done.returncode == 0
    shown = re.findall(r"^│ ([a-z]+)  |^╭─ ([A-Z][a-z ]+) ─", done.stdout, re.MULTILINE)
    begin = [panel for _, panel in shown].index("Begin")
    wanted = [(("", panel), *((name, "") for name in PANELS[panel])) for panel in PANELS]
    assert shown[begin:] == list(chain.from_iterable(wanted))
    assert {name.split()[0] for name, _ in every_command()} == {
        name for names in PANELS.values() for name in names
    }


def test_a_long_command_groups_its_options() -> None:
    for name, parameters in every_command():
        panels = {
            getattr(get_args(one.annotation)[1], "rich_help_panel", None) for one in parameters
        }
        assert len(parameters) <= 9 or len(panels) > 1, name


def test_a_refused_command_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    root = tmp_path / "none"
    done = process("shard", "folder", "--root", root, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == f"error: {root}: no such folder; check the root\n"
    assert done.stdout == ""


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert "no such folder; check the root" in complaint(
        "shard", "folder", "--root", tmp_path / "none", "--out", tmp_path / "out"
    )
    (tmp_path / "empty").mkdir()
    assert "is empty; put one folder per class" in complaint(
        "shard", "folder", "--root", tmp_path / "empty", "--out", tmp_path / "out"
    )
    assert "no such folder; make shards with `tb shard`" in complaint(
        "train", "invariant", "--shards", tmp_path / "none", "--out", tmp_path / "work"
    )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "work").exists()


def test_shards_do_not_go_among_source_code(tmp_path: Path) -> None:
    for name in ("a/a0", "a/a1"):
        make_video(tmp_path / "videos" / f"{name}.mp4", num_frames=8)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "__init__.py").touch()
    message = complaint(
        "shard", "folder", "--root", tmp_path / "videos", "--out", tmp_path / "shards"
    )
    assert "holds Python code; choose another --out" in message


def test_a_class_with_one_video(tmp_path: Path) -> None:
    for name in ("a/a0", "a/a1", "b/b0"):
        make_video(tmp_path / "videos" / f"{name}.mp4", num_frames=8)
    message = complaint("shard", "folder", "--root", tmp_path / "videos", "--out", tmp_path / "out")
    assert "class 'b' has 1 video, needs 2" in message
    assert "--min-per-class 1" in message


def test_bad_videos_among_good_ones_are_reported_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for name in ("a/a0", "a/a1", "b/b0", "b/b1"):
        make_video(root / f"{name}.mp4", num_frames=30)
    (root / "a" / "text.mp4").write_text("not a video")
    whole = (root / "b" / "b0.mp4").read_bytes()
    (root / "b" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    done = process("shard", "folder", "--root", root, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2 videos skipped" in done.stdout
    assert "a/text.mp4:" in done.stdout
    assert "b/cut.mp4: truncated" in done.stdout
    assert "4 videos, 2 classes" in done.stdout


def test_unknown_settings_presets_and_stages(manifest: Manifest, tmp_path: Path) -> None:
    common = ("--shards", manifest.root, "--out", tmp_path)
    message = complaint("train", "invariant", *common, "--set", "pretrain.optim.step=3")
    assert "no setting 'pretrain.optim.step'; did you mean 'pretrain.optim.steps'" in message
    assert "no preset 'demos'" in complaint("train", "student", *common, "--preset", "demos")
    assert "no such checkpoint" in complaint("eval", "student", *common, "--preset", "demo")
    missing = f"{tmp_path / 'nope' / 'checkpoint.pt'}: no such checkpoint"
    assert missing in complaint("eval", "nope", *common)
    wrong = complaint("reproduce", "main", "--out", tmp_path, "--dataset", "ucf")
    assert "dataset (--dataset) is 'ucf': choose one of ucf101" in wrong
    assert (
        "no such file"
        in complaint(
            "views", "--shards", manifest.root, "--out", tmp_path / "none" / "x.png"
        ).lower()
    )
    assert list(tmp_path.iterdir()) == []  # a refused command leaves nothing behind


def test_a_checkpoint_of_another_backbone(
    finished: Path, manifest: Manifest, tmp_path: Path
) -> None:
    message = complaint(
        *("train", "finetune", "--teacher", "invariant"),
        *("--shards", manifest.root, "--out", tmp_path),
        *("--init", finished / "invariant" / "checkpoint.pt"),
        *("--set", "backbone=r3d_18"),
    )
    assert "checkpoint of backbone 'small', but this run uses 'r3d_18'" in message
    assert "--set backbone=small" in message


def test_a_damaged_shard_is_named_while_training(manifest: Manifest, tmp_path: Path) -> None:
    import shutil

    shards = tmp_path / "shards"
    shutil.copytree(manifest.root, shards)
    name = manifest.shard_names[0]
    data = bytearray((shards / name).read_bytes())
    for offset, size in zip(manifest.offsets.tolist(), manifest.sizes.tolist(), strict=True):
        data[offset + size // 2] ^= 0xFF
    (shards / name).write_bytes(data)
    message = complaint(
        *("train", "invariant", "--shards", shards, "--out", tmp_path / "work"),
        *("--preset", "demo", "--set", "pretrain.optim.batch_size=2"),
    )
    assert name in message
    assert "differs" in message


def test_config_show_is_what_a_preset_file_may_hold(tmp_path: Path) -> None:
    shown = tb("config", "show", "demo", "--set", "labels.percent=3")
    assert shown == dump_yaml(load_config("demo", ["labels.percent=3"]))
    assert "demo" in tb("config", "presets").split()


def test_report_needs_what_it_reports(manifest: Manifest, tmp_path: Path) -> None:
    message = complaint("report", "--shards", manifest.root, "--out", tmp_path)
    assert "not evaluated on 'test'; run `tb eval supervised` first" in message
