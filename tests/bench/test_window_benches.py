"""The benches of windows run, and have a figure for each way and each place."""

import json
import sys
from pathlib import Path

import pytest

from bench import late_windows, window_decoders
from bench.peers import torchcodec_decoder
from shards.encode.recipe import Recipe
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.make_videos import make_video


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos in MJPEG, which DALI decodes on a CPU."""
    root = tmp_path_factory.mktemp("windows")
    for seed in range(2):
        make_video(root / "videos" / "a" / f"{seed}.mp4", num_frames=40, seed=seed)
    ingest(from_folder(root / "videos"), root / "shards", recipe=Recipe(codec="mjpeg"), workers=1)
    return root / "shards"


@pytest.mark.slow
def test_every_way_decodes_early_and_late_windows(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    words = ["--shards", str(shards), "--rounds", "1", "--device", "cpu", "--frames", "4"]
    report = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["late_windows", *words, "--json", str(report)])
    late_windows.main()
    _, places, *rows = capsys.readouterr().out.splitlines()
    assert places.split() == ["at", "0", "at", "18", "at", "36"]
    figures = {row[:18].strip(): [float(text) for text in row[18:].split()] for row in rows}
    assert list(figures) == list(late_windows.WAYS)
    assert all(len(times) == 3 and min(times) > 0 for times in figures.values())
    content = json.loads(report.read_text())
    assert (content["codec"], content["starts"]) == ("mjpeg", [0, 18, 36])
    for way, factor in late_windows.WAYS.items():
        printed = [pytest.approx(factor * value, abs=0.06) for value in content["seconds"][way]]
        assert figures[way] == printed


@pytest.mark.slow
def test_every_decoder_decodes_the_same_windows(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        torchcodec_decoder()
    except ImportError as error:
        pytest.skip(f"torchcodec: {error}")
    words = ["--shards", str(shards), "--rounds", "1", "--json", str(tmp_path / "report.json")]
    monkeypatch.setattr(sys, "argv", ["window_decoders", *words])
    window_decoders.main()
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("student, 2 windows")
    names = [row.split()[2] for row in rows]
    assert names == 2 * ["fused", "PyAV", "torchcodec"]
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["settings"]["windows"], content["settings"]["codec"]) == (2, "mjpeg")
    assert [row["decoder"] for row in content["rows"]] == names
    assert [f"{row['cpu_ms']:.2f}" for row in content["rows"]] == [row.split()[3] for row in rows]
