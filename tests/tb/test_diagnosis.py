"""`tb doctor`: what it finds is what there is, and it leaves nothing behind."""

import re
from pathlib import Path

import pytest
import torch

import tb
from loaders.engines.choice import why_not_dali
from shards.cpus import num_cpus
from shards.errors import InputError
from tb import diagnosis
from tb.version import version_text
from tests.tb.commands import process


def test_it_names_what_is_used(tmp_path: Path) -> None:
    found = {one.name: one for one in tb.doctor(tmp_path)}
    assert list(tmp_path.iterdir()) == []
    assert found["timebalance"].found == version_text()
    assert found["processors"].found.startswith(f"{num_cpus()} usable")
    assert found["engine"].found == (
        "fused for h264" if why_not_dali("auto", frozenset({"h264"})) else "dali or fused for h264"
    )
    assert all(name in found["CPU decoders"].found for name in ("h264", "hevc", "vp9", "mjpeg"))
    assert found["GPU"].is_missing == (not torch.cuda.is_available())
    speeds = re.findall(r"(\d+) MB/s", found["disk"].found)
    assert len(speeds) == 2
    assert all(int(speed) > 0 for speed in speeds)
    for one in found.values():
        assert one.found
        assert one.so


@pytest.mark.parametrize("has_library", [True, False])
def test_a_dali_that_asks_the_driver_each_time_is_named(
    has_library: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(diagnosis, "dali_is_installed", lambda: True)
    monkeypatch.setattr(diagnosis, "caps_cache", lambda: object() if has_library else None)
    found = diagnosis._dali()
    assert found.is_missing != has_library
    assert ("C compiler" in found.so) != has_library


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder"):
        tb.doctor(tmp_path / "none")


def test_the_command_is_one_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a terminal with 80 columns and 24 lines, and it breaks no command in two."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    done = process("doctor", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) <= 24
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", done.stdout).splitlines())) <= 80
    if "other extras" in done.stdout:
        assert "pip install 'timebalance[" in done.stdout
    for name in ("processors", "disk", "GPU", "NVDEC", "DALI", "engine"):
        assert name in done.stdout
