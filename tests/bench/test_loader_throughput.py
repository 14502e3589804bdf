"""The throughput bench runs, and its rows have the figures that they promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.format.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "name",
    "videos_per_s",
    "views_per_s",
    "frames_per_s",
    "cpu_s_per_video",
    "peak_rss_mb",
    "ratio_to_best_peer",
    "fraction_of_decode_ceiling",
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_one_round(textured_shards: Manifest, tmp_path: Path) -> None:
    command = [
        *[sys.executable, "bench/loader_throughput.py", "--shards", str(textured_shards.root)],
        *["--size", "32", "--videos", "4", "--batch-size", "2", "--rounds", "1"],
        *["--readers", "render-webdataset", "render-folder"],
        *["--peers", "torchcodec", "opencv-pil", "--engines", "fused", "dali", "reference"],
        *["--json", str(tmp_path / "a.json"), "--png", str(tmp_path / "a.png")],
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["settings"]["videos_per_round"] == 4
    rows = {row["name"]: row for row in report["rows"]}
    assert {"decode only", "fused", "reference", "render-folder"} <= rows.keys()
    for row in rows.values():
        assert row.keys() >= KEYS
        assert row["views_per_s"] == pytest.approx(row["videos_per_s"] * 10)
        assert row["frames_per_s"] == pytest.approx(row["videos_per_s"] * 160)
    # A contender that is not installed is left out, and a line says so.
    for name in {"torchcodec", "opencv-pil", "render-webdataset"} - rows.keys():
        assert f"starting {name}\n  left out: not installed" in done.stdout
    for name, row in rows.items():
        stages = row["stages_ms"]
        assert (stages is not None) == (name in {"fused", "dali", "reference"})
        assert stages is None or (
            list(stages) == ["read", "decode", "augment"] and all(ms > 0 for ms in stages.values())
        )
    assert rows["reference"]["psnr_db"] > 100
    assert rows["fused"]["psnr_db"] > 42
    for name in {"render-webdataset", "render-folder"} & rows.keys():
        assert rows[name]["psnr_db"] == rows["fused"]["psnr_db"]  # the same pixels
    assert "dali" not in rows or rows["dali"]["psnr_db"] > 42
    assert (tmp_path / "a.png").stat().st_size > 1000
