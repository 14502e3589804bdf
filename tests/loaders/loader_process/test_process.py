"""Batches of the loader process; its death is an error, and it ends with the training."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders import Batch, Loader, LoaderError, ViewSpec, open_loader
from loaders.loader_process.messages import RenderVideos
from loaders.loader_process.process import LoaderProcess, shared_process
from loaders.loader_process.process_producer import DaliProducer, ProcessProducer
from loaders.plan.stage_views import pretrain
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.loaders.first_code import run_first
from tests.loaders.test_handover import DALI
from tests.paired import paired
from tests.processes import is_alive, is_in_ring, wait_until_dead, wait_until_idle


def open_beside(manifest: Manifest, views: ViewSpec | str, **options: Any) -> Loader:
    return open_loader(manifest, views, in_process=False, **{"num_workers": 2, **options})


def _pid(loader: Loader) -> int:
    assert isinstance(loader.producer, ProcessProducer | DaliProducer)
    pid = loader.producer.process.pid
    assert pid is not None
    return pid


def assert_same(one: Batch, other: Batch) -> None:
    assert one.keys == other.keys
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.valid, other.valid)
    assert one.views.keys() == other.views.keys()
    for name in one.views:
        assert one.views[name].dtype == other.views[name].dtype
        assert one.views[name].stride() == other.views[name].stride()
        assert torch.equal(one.views[name], other.views[name])
    for name, value in vars(one.plan).items():
        assert np.array_equal(value, getattr(other.plan, name)), name


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_batches_are_those_of_threads_here(
    numbered_shards: Manifest, tiny_views: ViewSpec, engine: str, dtype: str
) -> None:
    settings: dict[str, Any] = {"engine": engine, "dtype": dtype, "batch_size": 3, "seed": 5}
    with (
        open_beside(numbered_shards, tiny_views, **settings) as beside,
        open_loader(numbered_shards, tiny_views, in_process=True, **settings) as here,
    ):
        assert len(beside) > 2
        for one, other in paired(beside.batches(1), here.batches(1)):
            assert_same(one, other)
        for one, other in paired(islice(beside.stream(3), 5), islice(here.stream(3), 5)):
            assert_same(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("in_process", [True, False])
def test_a_gpu_gets_the_batches_of_a_cpu(
    numbered_shards: Manifest, tiny_views: ViewSpec, in_process: bool
) -> None:
    """From pinned memory that is used again and again."""
    options: dict[str, Any] = {"engine": "fused", "batch_size": 2, "num_workers": 2}
    with (
        open_loader(
            numbered_shards, tiny_views, device="cuda", in_process=in_process, **options
        ) as gpu,
        open_loader(numbered_shards, tiny_views, device="cpu", **options) as cpu,
    ):
        for one, other in paired(islice(gpu.stream(), 20), islice(cpu.stream(), 20)):
            assert one.labels.device.type == "cuda"
            assert torch.equal(one.labels.cpu(), other.labels)
            assert torch.equal(one.valid.cpu(), other.valid)
            for name in other.views:
                assert torch.equal(one.views[name].cpu(), other.views[name])


def test_several_iterations_at_once_do_not_mix(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    with (
        open_beside(numbered_shards, tiny_views, batch_size=2) as beside,
        open_loader(numbered_shards, tiny_views, batch_size=2, in_process=True) as here,
    ):
        mixed = zip(beside.batches(0), beside.stream(), beside.batches(2), strict=False)
        plain = zip(here.batches(0), here.stream(), here.batches(2), strict=False)
        for ours, theirs in paired(mixed, plain):
            for one, other in zip(ours, theirs, strict=True):
                assert_same(one, other)


def test_pixels_arrive_in_shared_memory_and_are_used_again(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    """A tensor lies in a mapping of the ring, and a long run needs no more than a few."""
    with open_beside(numbered_shards, tiny_views, batch_size=2) as loader:
        places = set()
        for batch in islice(loader.stream(), 40):
            places.add(batch.views["long"].data_ptr())
            assert is_in_ring(batch.views["long"].data_ptr())
            del batch
    assert 1 < len(places) <= 6


def test_loaders_share_one_process(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    with (
        open_beside(numbered_shards, tiny_views) as one,
        open_beside(numbered_shards, "student") as other,
    ):
        assert _pid(one) == _pid(other)
        for ours, theirs in paired(islice(one.stream(), 6), islice(other.stream(), 6)):
            assert (ours.views.keys(), theirs.views.keys()) == ({"long", "short"}, {"clip"})


@pytest.mark.parametrize("engine", ["fused", DALI])
def test_the_process_does_without_torch(
    numbered_shards: Manifest, tiny_views: ViewSpec, engine: str, new_process: LoaderProcess
) -> None:
    """PyAV decodes h264 for DALI on the CPU, in the loader process."""
    assert set(numbered_shards.codecs) == {"h264"}
    with open_beside(numbered_shards, tiny_views, engine=engine, device="cpu") as loader:
        next(iter(loader))
        assert _pid(loader) == new_process.pid
        assert "libtorch" not in Path(f"/proc/{new_process.pid}/maps").read_text()


def test_errors_of_opening_are_those_of_threads_here(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    with pytest.raises(InputError, match="is not remote: leave cache out"):
        open_beside(numbered_shards, tiny_views, cache=False)


_SCRIPT = """
import json, logging, os, sys
from loaders import open_loader
from loaders.plan.stage_views import pretrain
loader = open_loader({shards!r}, pretrain(num_frames=4, size_px=16, num_slices=2), in_process=False,
                     batch_size=2, num_workers=2)
batches = loader.stream()
print(json.dumps([loader.producer.process.pid, next(batches).keys]), flush=True)
{then}
"""


def _script(manifest: Manifest, then: str) -> "subprocess.Popen[str]":
    """A program without a `__main__` guard, on standard input as in a REPL."""
    process = subprocess.Popen(
        [sys.executable, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(_SCRIPT.format(shards=str(manifest.root), then=then))
    process.stdin.close()
    return process


@pytest.mark.parametrize(
    ("then", "number"),
    [
        ("sys.stdin.close(); import time; time.sleep(600)", signal.SIGKILL),
        ("sys.stdin.close(); import time; time.sleep(600)", signal.SIGSEGV),
        ("", None),
        # A forked process keeps the parent's socket open.
        ("if os.fork() == 0:\n    import time; time.sleep(20)\nos._exit(0)", None),
    ],
)
def test_it_ends_when_its_parent_ends(
    numbered_shards: Manifest, then: str, number: signal.Signals | None
) -> None:
    with _script(numbered_shards, then) as process:
        assert process.stdout is not None
        pid, keys = json.loads(process.stdout.readline())
        assert len(keys) == 2
        if number is not None:
            assert is_alive(pid)
            process.send_signal(number)
        process.stdout.close()
        assert process.wait() == (0 if number is None else -number)
    wait_until_dead(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_its_death_is_an_error_that_says_how(
    numbered_shards: Manifest, tiny_views: ViewSpec, number: signal.Signals
) -> None:
    """At the next batch, also where finished ones wait."""
    with open_beside(numbered_shards, tiny_views, batch_size=2) as loader:
        batches, pid = loader.stream(), _pid(loader)
        next(batches)
        wait_until_idle(pid)
        os.kill(pid, number)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until its last thread has ended
        with pytest.raises(
            LoaderError, match=rf"loader process \({pid}\) was killed by {number.name}"
        ) as error:
            next(batches)
        # The kernel sends SIGKILL for want of memory.
        assert ("lower lookahead_mb" in str(error.value)) == (number == signal.SIGKILL)
        with pytest.raises(LoaderError, match=number.name):
            loader.batches(0).__next__()
    with open_beside(numbered_shards, tiny_views, batch_size=2) as loader:
        assert _pid(loader) != pid
        assert len(list(loader.batches(0))) == len(loader)


_WITHOUT_MEMORY = """
from loaders.loader_process import messages
send = messages.send


def no_memory(connection, message):
    if isinstance(message, (messages.Made, messages.Failed)):
        raise MemoryError("no room for the message")
    send(connection, message)


messages.send = no_memory
"""
_ENDING = """
import os
from loaders.loader_process import messages


def end(connection, message):
    os._exit(7)


messages.send = end
"""


@pytest.mark.parametrize(("first", "code"), [(_WITHOUT_MEMORY, 1), (_ENDING, 7)])
def test_an_end_without_a_word_is_an_error_with_its_exit_code(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    first: str,
    code: int,
) -> None:
    """While a loader opens, and where memory does not suffice for the error itself."""
    run_first(first, tmp_path, monkeypatch)
    end = rf"loader process \(\d+\) has ended with exit code {code}; its error output says why"
    with (
        pytest.raises(LoaderError, match=end),
        open_beside(numbered_shards, tiny_views, batch_size=2) as loader,
    ):
        next(loader.stream())
    assert ("MemoryError: no room" in capfd.readouterr().err) == (code == 1)


def test_the_interrupts_of_a_terminal_and_of_a_scheduler_leave_it_alone(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    """The training may still want batches: it ends with the training."""
    with open_beside(numbered_shards, tiny_views, batch_size=2) as loader:
        batches = loader.stream()
        next(batches)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(_pid(loader), number)
        assert len(list(islice(batches, 20))) == 20


def test_an_interrupted_request_does_not_answer_the_next_one(
    numbered_shards: Manifest, tiny_views: ViewSpec, new_process: LoaderProcess
) -> None:
    """Ctrl-C in a notebook while a loader opens; the next cell opens another one."""

    def interrupt(*_: object) -> None:
        os.kill(new_process.pid, signal.SIGCONT)
        raise KeyboardInterrupt

    with open_beside(numbered_shards, tiny_views) as earlier:
        os.kill(new_process.pid, signal.SIGSTOP)  # the request has no reply before the interrupt
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                open_beside(numbered_shards, "student")
        finally:
            signal.signal(signal.SIGALRM, before)
        with open_beside(numbered_shards, tiny_views, batch_size=2) as loader:
            assert _pid(loader) != new_process.pid
            assert len(list(loader.batches(0))) == len(loader)
        with pytest.raises(LoaderError, match="because a request to it was interrupted"):
            next(earlier.batches(0))


def test_many_threads_with_small_batches(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    """More batches are in work than a byte can number."""
    with open_beside(numbered_shards, tiny_views, batch_size=1, num_workers=130) as loader:
        assert len(list(islice(loader.stream(), 2))) == 2


def test_nothing_stays_behind(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    process = shared_process()

    def cycle() -> None:
        with open_beside(numbered_shards, tiny_views, batch_size=2) as loader:
            list(islice(loader.stream(), 3))
            next(iter(loader))

    def state() -> tuple[set[str], int, int]:
        gc.collect()
        files = Path("/proc/self/fd")
        theirs = Path(f"/proc/{process.pid}/fd")
        return (
            {thread.name for thread in threading.enumerate()},
            len(list(files.iterdir())),
            len(list(theirs.iterdir())),
        )

    cycle()
    before = state()
    for _ in range(5):
        cycle()
    assert state() == before


def test_closing_does_not_wait_for_batches_that_nobody_takes(numbered_shards: Manifest) -> None:
    """Their plans are more than a socket holds, so the loader process waits while it sends them."""
    views = pretrain(num_frames=4, size_px=16, num_slices=8)
    with open_beside(numbered_shards, views, batch_size=96, num_workers=1) as loader:
        batches = loader.stream()
        next(batches)
        # All slots but the one that is held were given away, so all of these batches are made.
        time.sleep(1)
    with pytest.raises(LoaderError, match="closed"):
        next(batches)


def test_a_loader_that_nobody_closes_is_closed_by_the_next_request(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = shared_process()
    producer = ProcessProducer(
        open_loader(numbered_shards, tiny_views, in_process=True).planner,
        cache=True,
        num_workers=1,
        work=RenderVideos(engine="fused", dtype="float32", lookahead_mb=10, picture_px=100.0),
        max_kept=2,
        prepare=None,
    )
    assert not process.abandoned
    del producer
    assert len(process.abandoned) == 1
    with open_beside(numbered_shards, tiny_views):
        assert not process.abandoned


@pytest.mark.slow
def test_100_epochs_leave_both_processes_as_they_were(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    def state(pid: int) -> tuple[tuple[int, int, int], int]:
        folder = Path(f"/proc/{pid}")
        lines = [line.split() for line in (folder / "status").read_text().splitlines()]
        kb = {line[0]: int(line[1]) for line in lines if line[0] in ("VmRSS:", "RssShmem:")}
        # The thread of the epoch that is just over may still be ending.
        looks = []
        for _ in range(20):
            time.sleep(0.01)
            looks.append([len(list((folder / name).iterdir())) for name in ("fd", "task")])
        files, threads = map(min, zip(*looks, strict=True))
        return (files, threads, kb["RssShmem:"]), kb["VmRSS:"]

    with open_beside(numbered_shards, tiny_views, batch_size=2) as loader:
        pids = (os.getpid(), _pid(loader))
        for epoch in range(100):
            for batch in loader:
                del batch
            if epoch == 10:
                before = [state(pid) for pid in pids]
        after = [state(pid) for pid in pids]
    assert before[1][0][2] > 0  # Where batches are written. Nobody has read one here.
    for (held, memory_kb), (held_after, memory_kb_after) in zip(before, after, strict=True):
        assert held_after == held
        assert memory_kb_after < memory_kb + 8 * 1024
