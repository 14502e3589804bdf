"""The names in a set from a stranger cannot forge a list of labels or steer the terminal."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.format.dataset_json import DATASET_NAME
from shards.format.manifest import Manifest, read_manifest
from shards.labels.label_list import read_label_list
from tests.make_videos import make_video
from tests.tb.commands import complaint, tb

_COMMANDS = (("split", "--fraction", 20), ("data", "info"), ("data", "ls"))


@pytest.fixture
def root(manifest: Manifest, tmp_path: Path) -> Path:
    """A copy of a set, whose names the test may change."""
    return Path(shutil.copytree(manifest.root, tmp_path / "copy"))


def _rename(root: Path, **names: Any) -> None:
    path = root / DATASET_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | names))


@pytest.mark.parametrize("words", _COMMANDS)
@pytest.mark.parametrize("name", ["evil\n5\n4\n3\n# x", "\x1b[31mred", "\x9b31mred", "a\u2028b"])
def test_control_characters_are_refused(
    manifest: Manifest, root: Path, words: tuple[object, ...], name: str
) -> None:
    classes = [name, *manifest.classes[1:]]
    problem = "has a line break or another control character"
    for field, value in (("name", name), ("classes", classes), ("counts", [{name: 36}])):
        _rename(root, **{"name": manifest.name, "classes": manifest.classes, field: value})
        assert f"{DATASET_NAME}: {field} {problem}; run" in complaint(*words, root)
    assert not list(root.glob("*.txt"))


def test_what_turns_the_reading_direction_is_printed_as_an_escape(
    manifest: Manifest, root: Path, tmp_path: Path
) -> None:
    name = "evil\u202etxet"
    # The last class has no video of its own.
    _rename(root, name=name, classes=[name, *manifest.classes[1:], f"{name}2"])
    path = tmp_path / "list.txt"
    printed = [
        tb("split", "--fraction", 20, "--out", path, root),
        tb("data", "info", root),
        tb("data", "ls", root),
        path.read_text(),
    ]
    for text in printed:
        assert r"evil\u202etxet" in text
        assert "\u202e" not in text
    opened = read_manifest(root)
    labelled = read_label_list(path, opened)
    assert np.array_equal(labelled, read_label_list(path, manifest))
    assert f"# {labelled.sum()} labelled of" in printed[-1].splitlines()[0]


def test_the_name_of_a_public_list_forges_no_line(
    manifest: Manifest, root: Path, tmp_path: Path
) -> None:
    first, second = manifest.indices("train")[:2].tolist()
    public = tmp_path / f"list\n{manifest.keys[second]}\n# .txt"
    public.write_text(f"{manifest.keys[first]}\n")
    path = tmp_path / "out.txt"
    printed = tb("split", "--from-list", public, "--out", path, root)
    assert f"(from list\\n{manifest.keys[second]}\\n# .txt)" in printed
    assert np.flatnonzero(read_label_list(path, manifest)).tolist() == [first]


def test_a_class_without_a_video_is_printed_as_an_escape(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", num_frames=5)
    table = tmp_path / "set.csv"
    table.write_text("path,label\na.mp4,a\nmissing.mp4,evil\u202etxet\n")
    words = ("shard", "csv", "--csv", table, "--out", tmp_path / "out", "--min-per-class", 1)
    assert r"1 class without a video: evil\u202etxet" in tb(*words)
