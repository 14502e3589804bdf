"""`tb config`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tb.cli import app
from tb.config.load_config import load_config


def tb(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


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
