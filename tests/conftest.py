"""Tests marked `gpu` are skipped without a CUDA device. With TB_REQUIRE_GPU=1 they fail instead.

Numeric libraries get one thread here and in the processes that tests start: the work is small, and
threads that wait for each other would spin on cores that the other tests need.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # read when torch and NumPy are loaded

# Examples have no time limit, because a busy machine must not fail a test.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", autouse=True)
def one_encoder() -> Iterator[None]:
    """Ingestion starts one process, not one for each core: the start takes most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shards.ingestion.ingest.num_cpus", lambda: 1)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("TB_REQUIRE_GPU") == "1":
            pytest.fail("no CUDA device, and TB_REQUIRE_GPU is 1")
        pytest.skip("no CUDA device")
