"""What `tb reproduce --dry-run` says, and the memory that it needs at the paper's size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from tb.tables.cost import cost_table
from tb.tables.grid import make_grid, run_grid
from tests.tb.tables.test_grid import QUICK_GRID, TABLE1, grid_of

_DRY_RUN = """
import sys
from pathlib import Path
from shards.format.manifest import read_manifest
from tb.tables.reproduce import Reproduction
wanted = Reproduction(table="main", dataset=sys.argv[2], backbone=sys.argv[3])
print(wanted.cost(read_manifest(sys.argv[1]), Path("none")))
# Not `ru_maxrss`, which is at least the size of the process that started this one.
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(1024 * int(line.split()[1]))
"""


def test_cost_measures_under_autocast_too(manifest: Manifest, tmp_path: Path) -> None:
    grid = make_grid(
        [TABLE1["supervised"]],
        {50: "demo"},
        num_seeds=1,
        overrides=(*QUICK_GRID, "machine.amp=bf16"),
    )
    (line,) = (x for x in cost_table(grid, manifest, tmp_path).splitlines() if "supervised" in x)
    assert float(line.split()[4].rstrip("*")) > 0  # *: measured now


def test_cost_counts_what_is_left(manifest: Manifest, tmp_path: Path) -> None:
    grid = grid_of("supervised", "finetune-invariant", seeds=3)
    text = cost_table(grid, manifest, tmp_path)
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert lines["supervised"][1:4] == ["3", "0", "6"]
    assert lines["invariant"][1:4] == ["3", "0", "4"]
    path = tmp_path / "done" / "seed-0.labels-50.supervised.json"
    run_grid(grid_of("supervised"), manifest, tmp_path)
    finding = json.loads(path.read_text())
    finding["step_s"] = 3600.0
    path.write_text(json.dumps(finding))
    lines = {
        line.split()[0]: line.split()
        for line in cost_table(grid, manifest, tmp_path).splitlines()
        if line
    }
    assert lines["supervised"][1:] == ["3", "1", "6", "3600.000", "12.00"]


def test_the_cost_of_a_step_grows_with_its_clips(manifest: Manifest, tmp_path: Path) -> None:
    """Kinds that show the network the same clips differ only by how many they show."""

    def seconds(*settings: str) -> dict[str, float]:
        grid = make_grid(
            [TABLE1["supervised"], TABLE1["finetune-invariant"]],
            {50: "demo"},
            num_seeds=1,
            overrides=(*QUICK_GRID, *settings),
        )
        lines = cost_table(grid, manifest, tmp_path).splitlines()[1:-2]
        return {line.split()[0]: float(line.split()[4].rstrip("*")) for line in lines}

    one = seconds("student.optim.batch_size=400", "finetune.optim.batch_size=400")
    two = seconds("student.optim.batch_size=800", "finetune.optim.batch_size=400")
    # The texts have three decimals.
    assert two["supervised"] == pytest.approx(2 * one["supervised"], abs=0.002)
    assert two["finetune-invariant"] == one["finetune-invariant"] == one["supervised"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backbone", ["r50", "r18"])
def test_a_dry_run_at_the_papers_size_fits_into_two_gigabytes(
    manifest: Manifest, tmp_path: Path, backbone: str
) -> None:
    command = [sys.executable, "-c", _DRY_RUN, str(manifest.root), "hmdb51", backbone]
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    *table, peak_bytes = done.stdout.splitlines()
    assert "forward passes of 1 clip" in table[-1]
    assert int(peak_bytes) < 2e9
