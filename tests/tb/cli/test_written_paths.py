"""Every command that writes to a path of the user's: what it says where that is impossible."""

import os
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from tests.tb.cli.test_commands import complaint
from tests.tb.conftest import QUICK

SETTINGS = tuple(word for text in QUICK for word in ("--set", text))


def place(tmp_path: Path, kind: str, name: str) -> Path:
    """A path at which no file can be written."""
    if kind == "missing folder":
        return tmp_path / "none" / name
    if kind == "a folder in place of the file":
        (tmp_path / name).mkdir()
        return tmp_path / name
    (tmp_path / "file").touch()
    return tmp_path / "file" / name


FILE_KINDS = ("missing folder", "a folder in place of the file", "below a file")


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_pictures(kind: str, finished: Path, manifest: Manifest, tmp_path: Path) -> None:
    png = place(tmp_path, kind, "x.png")
    before = sorted(tmp_path.rglob("*"))
    for command in (
        ("views", "--shards", manifest.root, "--preset", "demo", *SETTINGS),
        ("runs", "plot", finished / "student"),
    ):
        message = complaint(*command, "--png", png)
        assert str(png) in message
        assert "choose another png (--png)" in message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_exported_weights(kind: str, finished: Path, tmp_path: Path) -> None:
    out = place(tmp_path, kind, "x.safetensors")
    before = sorted(tmp_path.rglob("*"))
    message = complaint("export", finished / "student", "--out", out)
    assert str(out) in message
    assert "choose another out (--out)" in message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "command",
    [
        ("train", "invariant", "--preset", "demo", *SETTINGS),
        ("train", "all", "--preset", "demo", *SETTINGS),
        ("reproduce", "main", "--rows", "supervised", "--percents", "50"),
    ],
)
def test_a_file_in_place_of_the_work_folder(
    command: tuple[str, ...], manifest: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    message = complaint(*command, "--shards", manifest.root, "--out", tmp_path / "file")
    assert f"{tmp_path / 'file'}" in message
    assert "choose another out (--out)" in message


def test_a_file_in_place_of_the_demo_s_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "choose another" in complaint("demo", "--out", tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_work_folder_without_the_right_to_write(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    command = ("train", "invariant", "--preset", "demo", *SETTINGS)
    message = complaint(*command, "--shards", manifest.root, "--out", tmp_path / "closed")
    assert "choose another out (--out)" in message
