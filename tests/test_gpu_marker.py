"""The mark `gpu` skips tests, or fails them where a GPU is required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_MARKED = """
import pytest
@pytest.mark.gpu
def test_it():
    pass
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("required", "outcome"), [("0", "1 skipped"), ("1", "1 error")])
def test_gpu_tests_cannot_be_skipped_where_a_gpu_is_required(
    tmp_path: Path, required: str, outcome: str
) -> None:
    conftest = Path(__file__).resolve().with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(conftest.read_text())
    (tmp_path / "test_marked.py").write_text(_MARKED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a GPU\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "TB_REQUIRE_GPU": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout, done.stdout
    assert (done.returncode == 0) == (required == "0")
