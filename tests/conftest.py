"""Tests marked `gpu` are skipped without a CUDA device. With TB_REQUIRE_GPU=1 they fail instead."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

import tests.one_thread  # noqa: F401
from tests.kept_workers import KeptWorker, end_workers

pytest_plugins = ["pytester"]

# Examples have no time limit, because a busy machine must not fail a test.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", autouse=True)
def one_process() -> Iterator[None]:
    """One process encodes for all ingestions here, and one draws the videos of a demo.

    The start of a process takes longer than a small video.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tb.demo.videos.num_cpus", lambda: 1)
        patch.setattr("shards.ingestion.ingest.num_cpus", lambda: 1)
        patch.setattr("shards.ingestion.worker.Worker", KeptWorker)
        yield
    end_workers()


def pytest_collection_finish() -> None:
    """Excludes what is imported by now from garbage collection, because it stays to the end.

    These are about a million objects. Each `gc.collect()` of a test, and the five of pytest at the
    end, would take a third of a second for them.
    """
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("TB_REQUIRE_GPU") == "1":
            pytest.fail("no CUDA device, and TB_REQUIRE_GPU is 1")
        pytest.skip("no CUDA device")
