"""Child processes and the GPUs that they see."""

import os
import sys
import time
from pathlib import Path

import pytest

from shards.errors import InputError
from tb import registry
from tb.workflow.children import child_pool


def gpus_seen(meeting: Path) -> str:
    """What this process may use, once two processes have been here."""
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < 2:
        time.sleep(0.05)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")


@pytest.mark.parametrize(
    ("visible", "seen"), [("3,GPU-5", {"3", "GPU-5"}), ("7", {"7"}), ("", {""})]
)
def test_each_process_sees_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, seen: set[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with child_pool(2) as pool:
        jobs = [pool.submit(gpus_seen, tmp_path) for _ in range(2)]
        assert {job.result() for job in jobs} == seen


def test_own_modules_are_imported_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module may start CUDA, which keeps the GPUs that it saw first."""
    text = 'import os\nGPUS = os.environ["CUDA_VISIBLE_DEVICES"]\ndef gpus():\n    return GPUS\n'
    (tmp_path / "own_gpus.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "_IMPORTED", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    registry.import_modules(["own_gpus"])
    own = sys.modules.pop("own_gpus")
    monkeypatch.setitem(sys.modules, "own_gpus", own)  # so that it is forgotten
    with child_pool(1) as pool:
        assert pool.submit(own.gpus).result() == "5"


def test_one_of_several_processes_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="leave it out under torchrun"), child_pool(2):
        pass
