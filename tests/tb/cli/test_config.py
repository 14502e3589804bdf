"""`tb config`."""

from pathlib import Path

import pytest

from tb.config.load_config import load_config
from tests.tb.commands import tb


def test_config_diff_takes_presets_files_and_work_folders(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # as `make demo` leaves one: no work folder, so the preset counts
    assert tb("config", "diff", "demo", "demo") == ""
    output = tb("config", "diff", "demo", finished)
    lines = dict(line.split("\t", 1) for line in output.splitlines())
    demo = load_config("demo")
    assert lines["labels.percent"] == f"{demo.labels.percent}\t50.0"
    assert "backbone" not in lines
