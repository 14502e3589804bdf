"""Tests marked `gpu` are skipped without a CUDA device. With TB_REQUIRE_GPU=1 they fail instead."""

import os

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("TB_REQUIRE_GPU") == "1":
            pytest.fail("no CUDA device, and TB_REQUIRE_GPU is 1")
        pytest.skip("no CUDA device")
