"""Two processes that communicate by gloo do what one does.

Batch norm is frozen here, because each process has its own statistics. PyTorch synchronises them
only on GPUs.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shards.cpus import num_cpus
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.optim import Optim
from tb.config.sections import Config
from tb.training.metrics import METRICS, read_metrics
from tb.training.world import World, meeting_point, world_from
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tests.processes import loader_process, wait_until_dead
from tests.tb.commands import process, run_here
from tests.tb.conftest import QUICK
from tests.tb.pair import finish, start_pair
from tests.tb.ranks import STAGES, run_rank, train_all


def moments(path: Path) -> Tensor:
    """Adam's first moments of all weights, as one vector: a sum of gradients."""
    state = load_checkpoint(path)["optimizer"]["state"]
    return torch.cat([value["exp_avg"].flatten() for value in state.values()])


@pytest.mark.slow
def test_two_processes_do_what_one_does(manifest: Manifest, tmp_path: Path) -> None:
    pair = start_pair(tmp_path, run_rank, manifest.root, tmp_path / "two")
    train_all(manifest, tmp_path / "one")
    for code, error in finish(pair):
        assert code == 0, error
    check_alike(tmp_path)


def check_alike(root: Path) -> None:
    """Compares the runs in ROOT/one with those in ROOT/two."""
    for name in STAGES:
        one, two = (root / world / name for world in ("one", "two"))
        expected, found = moments(one / CHECKPOINT), moments(two / CHECKPOINT)
        assert expected.norm() > 0
        assert (found - expected).norm() < 1e-4 * expected.norm(), name
        rows = zip(read_metrics(one / METRICS), read_metrics(two / METRICS), strict=True)
        for row, other in rows:
            for key in row.keys() - {"data_wait_s", "step_s", "videos_per_s", "val_s"}:
                assert other[key] == pytest.approx(row[key], rel=1e-4), (name, key)


@pytest.mark.slow
def test_sigterm_to_one_rank_saves_and_ends_all_and_a_resume_ends_the_same(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Each rank has a loader process, which ends with it."""
    settings = (*QUICK, "student.optim.steps=30", "machine.checkpoint_steps=1000")
    settings = (*settings, "machine.log_steps=2")  # it stops where values are fetched
    settings = (*settings, "machine.in_process=false")
    words = ["train", "supervised", "--shards", str(manifest.root), "--preset", "demo"]
    words += [*(word for x in settings for word in ("--set", x)), "--out"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    pair = start_pair(tmp_path, run_here, *words, str(whole))
    assert [code for code, _ in finish(pair)] == [0, 0]

    pair = start_pair(tmp_path, run_here, *words, str(parts))
    log, checkpoint = parts / "supervised" / METRICS, parts / "supervised" / CHECKPOINT
    while len(read_metrics(log)) < 3 and all(rank.process.is_alive() for rank in pair):
        time.sleep(0.01)
    loaders = [loader_process(rank.pid) for rank in pair]
    os.kill(pair[1].pid, signal.SIGTERM)
    for code, error in finish(pair):
        assert code == 143, error
    assert None not in loaders
    assert len(set(loaders)) == 2
    assert not any(Path(f"/proc/{loader}").exists() for loader in loaders)
    saved = load_checkpoint(checkpoint)["step"]
    assert 3 <= saved < 30
    assert [row["step"] for row in read_metrics(log)] == list(range(saved))
    shutil.copytree(parts, tmp_path / "alone")

    pair = start_pair(tmp_path, run_here, *words, str(parts))
    assert [code for code, _ in finish(pair)] == [0, 0]
    assert file_digest(checkpoint) == file_digest(whole / "supervised" / CHECKPOINT)
    # Another number of processes may go on too.
    done = process(*words, tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    assert f"goes on at step {saved} of 30" in done.stderr


@pytest.mark.slow
def test_torchrun_trains_and_evaluates_everything(manifest: Manifest, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "tb.cli"]
    command += ["train", "all", "--shards", str(manifest.root), "--out", str(tmp_path)]
    command += ["--preset", "demo", *(word for setting in QUICK for word in ("--set", setting))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "similarity.parquet").is_file()
    rows = read_metrics(tmp_path / "student" / METRICS)
    assert [row["step"] for row in rows] == list(range(6))


def test_a_batch_that_does_not_divide_is_refused() -> None:
    optim = Optim(steps=1, batch_size=12, accumulate=2)
    assert [optim.piece_size(size) for size in (1, 2, 3, 6)] == [6, 3, 2, 1]
    with pytest.raises(InputError, match=r"batch_size is 12, for 4 process.*multiple of 8"):
        optim.piece_size(4)


def test_torchrun_goes_before_slurm_and_neither_is_one_process() -> None:
    slurm = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    torchrun = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0"}
    assert world_from({}) == World(rank=0, size=1, local_rank=0)
    assert world_from(slurm) == World(rank=5, size=8, local_rank=1)
    assert world_from({**slurm, **torchrun}) == World(rank=2, size=4, local_rank=0)
    # A batch script's own step, and `srun` with one task.
    assert world_from({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}).size == 1
    with pytest.raises(InputError, match="'RANK' is missing or wrong; start with"):
        world_from({"WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("gpu[03-04,7],login1", "gpu03"), ("gpu[3,5]", "gpu3"), ("a1,a2", "a1"), ("node", "node")],
)
def test_slurm_s_first_host_is_where_processes_meet(hosts: str, first: str) -> None:
    environ = {"SLURM_STEP_NODELIST": hosts, "SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "2"}
    assert meeting_point(environ) == (first, "23458")
    assert meeting_point({**environ, "MASTER_ADDR": "here", "MASTER_PORT": "1"}) == ("here", "1")


def test_without_a_meeting_point_nobody_waits() -> None:
    with pytest.raises(InputError, match="MASTER_ADDR is not set"):
        meeting_point({})


def test_a_device_of_its_own_for_each_process(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert World(rank=3, size=4, local_rank=1).device("auto") == "cuda:1"
    assert World(rank=3, size=4, local_rank=3).device("cuda") == "cuda:1"  # one visible GPU each
    assert World(rank=3, size=4, local_rank=1).device("cpu") == "cpu"
    assert World().device("auto") == "auto"


@pytest.mark.slow
def test_ranks_under_torchrun_share_the_cores(manifest: Manifest) -> None:
    """Each rank has one loader process for both streams, and its share of the threads."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command += ["-m", "tests.tb.loading_ranks", str(manifest.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [rank for rank, _ in sorted(lines)] == [0, 1]
    processes = {process for _, process in lines}
    assert len(processes) == 2
    wait_until_dead(*processes)
    threads = done.stderr.partition("Fatal Python error: Aborted")[2]
    assert threads.count(" in _worker\n") == max(1, num_cpus() // 2)
    assert threads.count(" in _iterate\n") == 2  # one for each stream
