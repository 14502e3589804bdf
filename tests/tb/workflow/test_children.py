"""Child processes and the GPUs that they see."""

import os
import time
from pathlib import Path

import pytest

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
