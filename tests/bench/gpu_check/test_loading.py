"""Where the loaders of the check have their threads, and how torchcodec's threads stay busy."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
import torch

from bench.gpu_check import loading
from bench.gpu_check.loading import finished
from bench.gpu_check.task import Task
from loaders import Loader, open_loader
from loaders.producer import LocalProducer

PLACES = ("", " in process")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Loader]:
    """The loaders that the cells open."""
    loaders: list[Loader] = []

    def recorded(*arguments: Any, **options: Any) -> Loader:
        loaders.append(open_loader(*arguments, **options))
        return loaders[-1]

    monkeypatch.setattr(loading, "open_loader", recorded)
    return loaders


@pytest.mark.parametrize("engine", ["fused", "dali"])
def test_an_engine_is_measured_in_both_places(
    task: Task, engine: str, opened: list[Loader]
) -> None:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    cells = {cell.name: cell for cell in loading.cells(task)}
    for place in PLACES:
        assert cells[f"student 32 h264 {engine}{place}"].run()["videos_per_s"] > 0
    assert [isinstance(loader.producer, LocalProducer) for loader in opened] == [False, True]


def test_the_short_check_of_a_gpu_compares_the_places_of_the_largest_views(task: Task) -> None:
    on_gpu = {
        cell.name: cell.is_long
        for cell in loading.cells(replace(task, device=torch.device("cuda")))
    }
    for engine in ("dali", "fused"):
        for stage in ("pretrain", "student"):
            for size_px in (224, 112):
                is_long = (stage, size_px) != ("pretrain", 224)
                assert not on_gpu[f"{stage} {size_px} h264 {engine}"]
                assert on_gpu[f"{stage} {size_px} h264 {engine} in process"] is is_long


class _EnoughError(Exception):
    """32 threads decode at the same time."""


def test_torchcodec_has_32_threads_on_a_gpu_and_no_loader_process(
    task: Task, opened: list[Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    meet = Barrier(32)

    def decoder(*_: object, **__: object) -> None:
        meet.wait(timeout=60)
        raise _EnoughError

    monkeypatch.setattr(Task, "is_dry", False)  # but the device is still the CPU
    monkeypatch.setattr(loading, "torchcodec_decoder", lambda: decoder)
    views = loading.ViewsToLoad(stage="student", size_px=32, recipe="h264")
    with pytest.raises(_EnoughError):
        next(loading._torchcodec(task, views))
    assert isinstance(opened[0].producer, LocalProducer)


def test_two_batches_are_in_work_behind_the_one_that_is_awaited() -> None:
    three_meet = Barrier(3)

    def render() -> None:
        three_meet.wait(timeout=60)  # of a program that waits for each batch, only one comes

    with ThreadPoolExecutor(3) as pool:
        assert list(finished([pool.submit(render)] for _ in range(6))) == [1] * 4
