"""What a loader copies to a device, and when, on a stream that only records."""

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from loaders import Batch, Loader, LoaderError, open_loader, placement
from loaders.engines.choice import dali_is_installed
from loaders.engines.engine import EngineName
from loaders.loader_process.process import LoaderProcess
from loaders.placement import Making
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from tests.paired import paired
from tests.processes import wait_until_idle

DALI = pytest.param(
    "dali", marks=pytest.mark.skipif(not dali_is_installed(), reason="DALI is not installed")
)


@dataclass
class RecordingStream:
    """Copies at once, and notes the thread and the tensors of everything that is asked of it."""

    events: list[tuple[str, str, int]] = field(default_factory=list)
    num_copies: int = 0

    def copy(self, tensors: list[torch.Tensor]) -> "RecordedCopy":
        self.num_copies += 1
        self.note("copy", len(tensors))
        return RecordedCopy(self, [tensor.clone() for tensor in tensors])

    def note(self, event: str, number: int) -> None:
        self.events.append((event, threading.current_thread().name, number))


@dataclass
class RecordedCopy:
    stream: RecordingStream
    tensors: list[torch.Tensor]

    def wait(self) -> None:
        self.stream.note("wait", len(self.tensors))

    def take(self) -> list[torch.Tensor]:
        self.stream.note("take", len(self.tensors))
        return self.tensors


def _opened(
    shards: Manifest,
    spec: ViewSpec,
    engine: str,
    stream: RecordingStream,
    *,
    in_process: bool = True,
) -> Loader:
    """A loader that copies to the CPU, as others copy to a GPU."""
    options: dict[str, Any] = {"batch_size": 4, "device": "cpu", "num_workers": 1}
    loader = open_loader(shards, spec, engine=engine, in_process=in_process, **options)
    return Loader(
        planner=loader.planner,
        producer=loader.producer,
        choice=loader.choice,
        labels=loader.labels,
        device=loader.device,
        skip=None,
        copies=stream,
        memory_mb=loader.memory_mb(),
    )


def _same(ours: Batch, theirs: Batch) -> bool:
    return (
        torch.equal(ours.labels, theirs.labels)
        and torch.equal(ours.valid, theirs.valid)
        and all(torch.equal(ours.views[name], theirs.views[name]) for name in theirs.views)
        and all(ours.views[name].stride() == theirs.views[name].stride() for name in theirs.views)
    )


def test_dali_copies_one_message_and_waits_for_nothing(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    """Its views are on the device. The training thread sends labels and `valid` after them."""
    pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    stream = RecordingStream()
    with _opened(numbered_shards, tiny_views, "dali", stream) as loader:
        for number, _ in enumerate(loader.batches(0), 1):
            assert stream.events == [("copy", "MainThread", 1), ("take", "MainThread", 1)] * number
        assert number == len(loader) > 1


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_threads_copy_all_in_one_message_from_a_thread(
    numbered_shards: Manifest, tiny_views: ViewSpec, engine: str
) -> None:
    stream, num_tensors = RecordingStream(), 1 + len(tiny_views.groups)
    with _opened(numbered_shards, tiny_views, engine, stream) as loader:
        num_batches = len(list(loader.batches(0)))
    assert {(event, thread, number) for event, thread, number in stream.events} == {
        ("copy", "transfer", num_tensors),
        ("wait", "transfer", num_tensors),
        ("take", "MainThread", num_tensors),
    }
    assert stream.num_copies == num_batches == len(loader)


@pytest.mark.parametrize("engine", ["fused", "reference", DALI])
def test_copied_batches_are_the_same(
    numbered_shards: Manifest, tiny_views: ViewSpec, engine: str
) -> None:
    with (
        _opened(numbered_shards, tiny_views, engine, RecordingStream()) as copying,
        open_loader(
            numbered_shards, tiny_views, engine=engine, batch_size=4, device="cpu", num_workers=1
        ) as plain,
    ):
        pairs = list(zip(copying.batches(0), plain.batches(0), strict=True))
    assert all(_same(*pair) for pair in pairs)
    assert not pairs[-1][0].valid.all()  # padding


@pytest.mark.parametrize("engine", ["fused", "reference", DALI])
def test_no_batch_comes_after_the_death_of_the_loader_process(
    numbered_shards: Manifest, tiny_views: ViewSpec, engine: str, new_process: LoaderProcess
) -> None:
    """Not even one that has been copied already, because a step may take long."""
    stream, pid = RecordingStream(), new_process.pid
    with _opened(numbered_shards, tiny_views, engine, stream, in_process=False) as loader:
        batches = loader.stream()
        next(batches)
        while engine != "dali" and stream.num_copies < 3:  # two wait behind the first one
            time.sleep(0.01)
        wait_until_idle(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(LoaderError, match=rf"\({pid}\) was killed by SIGKILL"):
            next(batches)


@pytest.mark.usefixtures("kept_process")
@pytest.mark.parametrize("in_process", [True, False], ids=["threads here", "loader process"])
@pytest.mark.parametrize("engine", [EngineName.FUSED, EngineName.REFERENCE])
def test_memory_is_pinned_when_it_is_new_and_not_for_each_batch(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    engine: EngineName,
    in_process: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All views lie in pinned memory. A loader process has one ring of it for every epoch."""
    pinned: list[range] = []

    def pin(device: torch.device, memory: np.ndarray) -> None:
        assert device == making.device
        pinned.append(range(memory.ctypes.data, memory.ctypes.data + memory.nbytes))

    monkeypatch.setattr(placement, "pin", pin)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**30, 2**30))
    making = Making(
        cache=True,
        dtype="float16",
        device=torch.device("cuda", 0),
        num_workers=1,
        in_process=in_process,
        lookahead_mb=None,
        max_kept_batches=None,
        layout=None,
    )
    with open_loader(numbered_shards, tiny_views, device="cpu", batch_size=1) as loader:
        producer = making.open(loader.planner, engine)
    # Three batches in work, and the one that is kept here.
    num_new = 4 * len(tiny_views.groups) if in_process else 1
    for epoch in range(2):
        for batch in producer.epoch(epoch):
            for view in batch.views:
                assert isinstance(view, np.ndarray)
                first = view.ctypes.data
                assert any(first in one and first + view.nbytes - 1 in one for one in pinned)
            del view
        assert len(pinned) == num_new < len(loader)
    producer.close()


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["fused", "reference", DALI])
def test_labels_on_a_gpu(numbered_shards: Manifest, tiny_views: ViewSpec, engine: str) -> None:
    options: dict[str, Any] = {"engine": engine, "batch_size": 4, "num_workers": 1}
    with (
        open_loader(numbered_shards, tiny_views, device="cuda", **options) as on_gpu,
        open_loader(numbered_shards, tiny_views, device="cpu", **options) as on_cpu,
    ):
        for ours, theirs in paired(on_gpu.batches(0), on_cpu.batches(0)):
            assert ours.labels.is_cuda
            assert ours.valid.is_cuda
            assert torch.equal(ours.labels.cpu(), theirs.labels)
            assert torch.equal(ours.valid.cpu(), theirs.valid)
