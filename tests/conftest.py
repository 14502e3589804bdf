"""Tests marked `gpu` are skipped without a CUDA device. With TB_REQUIRE_GPU=1 they fail instead.

Numeric libraries get one thread here and in the processes that tests start: the work is small, and
threads that wait for each other would spin on cores that the other tests need.
"""

import os

import pytest

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # read when torch and NumPy are loaded


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("TB_REQUIRE_GPU") == "1":
            pytest.fail("no CUDA device, and TB_REQUIRE_GPU is 1")
        pytest.skip("no CUDA device")
