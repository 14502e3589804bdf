"""A real cluster of two nodes on this machine gives the same bytes, even if one node is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.cli.shard import shard_app
from tests.make_videos import make_video
from tests.shards import damage
from tests.shards.helpers import fault_of

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# In another process, because Ray leaves threads and warnings behind.
_RUN = """
import json, sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from shards.sources.folder import from_folder
from shards.ingestion.ingest import ingest

root, out, lose_a_node = sys.argv[1], sys.argv[2], sys.argv[3] == "lose"
cluster = Cluster()
cluster.add_node(num_cpus=1, include_dashboard=False)
second = cluster.add_node(num_cpus=1)

def lose():
    while not list(Path(out).glob("shard-*.tar")):
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)

if lose_a_node:
    threading.Thread(target=lose, daemon=True).start()
report = ingest(from_folder(root), out, shard_bytes=80_000, ray_address=cluster.address)
print(json.dumps([report.digest, report.num_videos, report.num_skipped]))
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for index in range(40):
        make_video(root / f"class{index % 2}" / f"{index}.mp4", num_frames=60, seed=index)
    damage.truncated(root / "class0" / "cut.mp4")
    return root


@pytest.mark.parametrize("what", ["keep", "lose"])
def test_a_cluster_gives_the_same_bytes(many: Path, tmp_path: Path, what: str) -> None:
    command = [sys.executable, "-c", _RUN, str(many), str(tmp_path / "out"), what]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=500)
    local = ingest(from_folder(many), tmp_path / "local", shard_bytes=80_000)
    expected = [local.digest, local.num_videos, local.num_skipped]
    assert json.loads(result.stdout.splitlines()[-1]) == expected
    assert (local.num_videos, local.num_skipped) == (40, 1)
    trees = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("out", "local")
    ]
    assert trees[0] == trees[1]


def test_no_cluster_is_one_line(many: Path, tmp_path: Path) -> None:
    def run(*ray: str) -> None:
        arguments = ["folder", "--root", str(many), "--out", str(tmp_path / "out"), *ray]
        CliRunner().invoke(shard_app, arguments, catch_exceptions=False)

    assert "Ray address auto: no Ray cluster there" in fault_of(run, "--ray")
    assert "Ray address auto: no Ray cluster there" in fault_of(run, "--ray", "--strict")
    run()
    assert len(read_manifest(tmp_path / "out")) == 40
