"""The bench of ingestion runs, and its table and its file say the same."""

import json
from pathlib import Path

import pytest

from bench import ingest
from shards.errors import InputError


@pytest.mark.slow
def test_one_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        ingest._ffmpeg()
    except InputError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(ingest, "_NUM_GENERATED", 2)
    ingest.main(["--rounds", "1", "--json", str(tmp_path / "found.json")])
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["settings"]["rounds"] == 1
    (found,) = report["sets"]
    assert (found["num_videos"], found["name"]) == (2, "generated")
    assert 150 <= found["num_frames"] < 500
    assert found["ratio_min"] == found["ratio"] == found["ratio_max"] > 0
    titles, line, row = capsys.readouterr().out.splitlines()
    assert titles.count("|") == line.count("|") == row.count("|")
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:2] == ["generated", "2"]
    assert float(cells[-2]) == pytest.approx(found["cpu_ratio"], abs=0.006)
