"""The scripts in examples/ run as printed, and the Dockerfile's context is what git tracks."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shards.format.manifest import Manifest
from tb.training.metrics import METRICS
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint
from tests.tb.conftest import QUICK, manifest  # noqa: F401 (a fixture)

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
STEPS = 100
# In the place of srun: starts two processes, and the first time sends SIGTERM to both in the middle
# of the training.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_STEP_ID=0
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
    pids+=($!)
done
if [[ ! -e $SCRATCH/preempted && $* == *" --out "* ]]; then
    touch "$SCRATCH/preempted"
    until [[ -s $SCRATCH/work/supervised/metrics.jsonl ]] || ! kill -0 "${pids[0]}"; do
        sleep 0.05
    done
    kill -TERM "${pids[@]}"
fi
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit $code
"""
SCONTROL = """#!/usr/bin/env bash
echo "$@" >> "$SCRATCH/scontrol"
"""


def tool(folder: Path, name: str, text: str) -> None:
    """A program in a folder of PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """An environment in which `tb` and `torchrun` are those of this checkout."""
    python = f'#!/usr/bin/env bash\nexec "{sys.executable}" -m'
    tool(folder / "bin", "tb", f'{python} tb.cli "$@"\n')
    tool(folder / "bin", "torchrun", f'{python} torch.distributed.run "$@"\n')
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **variables}


def arguments(shards: Path, work: Path) -> list[str]:
    quick = (*QUICK, f"student.optim.steps={STEPS}", "machine.log_steps=1")
    sets = [word for setting in quick for word in ("--set", setting)]
    return ["supervised", "--shards", str(shards), "--out", str(work), "--preset", "demo", *sets]


@pytest.mark.parametrize("script", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_scripts_are_valid_and_can_be_started(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)


@pytest.mark.slow
def test_a_slurm_job_that_is_taken_away_is_queued_again_and_goes_on(
    manifest: Manifest,  # noqa: F811
    tmp_path: Path,
) -> None:
    tool(tmp_path / "bin", "srun", SRUN)
    tool(tmp_path / "bin", "scontrol", SCONTROL)
    job = str(100_000 + os.getpid())
    env = environment(tmp_path, SCRATCH=str(tmp_path), SLURM_JOB_ID=job)
    work = tmp_path / "work"

    def submit(*words: str) -> subprocess.CompletedProcess[str]:
        script = ["bash", str(EXAMPLES / "slurm_two_nodes.sh"), *words]
        return subprocess.run(script, env=env, capture_output=True, text=True, check=False)

    first = submit(*arguments(manifest.root, work))
    assert first.returncode == 143, first.stderr
    assert (tmp_path / "scontrol").read_text() == f"requeue {job}\n"
    saved = load_checkpoint(work / "supervised" / CHECKPOINT)["step"]
    assert 0 < saved < STEPS
    second = submit(*arguments(manifest.root, work))
    assert second.returncode == 0, second.stderr
    assert f"goes on at step {saved} of {STEPS}" in second.stderr
    lines = (work / "supervised" / METRICS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(STEPS))
    # A mistake is not tried again.
    assert submit("nonsense").returncode == 2
    assert (tmp_path / "scontrol").read_text() == f"requeue {job}\n"


@pytest.mark.slow
def test_two_nodes_meet_with_torchrun(manifest: Manifest, tmp_path: Path) -> None:  # noqa: F811
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    env = environment(tmp_path, PORT=port, PROCESSES_PER_NODE="1")
    script = ["bash", str(EXAMPLES / "torchrun_two_nodes.sh"), "localhost"]
    command = [*script, *arguments(manifest.root, tmp_path / "work")]
    nodes = [
        subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    ends = [(node.communicate()[1], node.returncode) for node in nodes]
    assert [code for _, code in ends] == [0, 0], ends
    assert load_checkpoint(tmp_path / "work" / "supervised" / CHECKPOINT)["step"] == STEPS
    usage = subprocess.run(script, env=env, capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "usage: " in usage.stderr


def test_the_container_gets_the_video_driver_and_every_tracked_file() -> None:
    text = (ROOT / "Dockerfile").read_text()
    capabilities = re.search(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", text)
    assert capabilities
    assert {"compute", "utility", "video"} <= set(capabilities[1].split(","))
    # A tracked file that is left out would make the commit of the image "changed".
    ignored = (ROOT / ".gitignore").read_text().split()
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert {x.removeprefix("**/") for x in left_out} <= {x.strip("/") for x in ignored}
    assert ".venv" in left_out
