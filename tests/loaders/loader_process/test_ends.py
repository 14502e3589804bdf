"""What ends with an iteration, with a loader, and with the loader process."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from loaders import ViewSpec, open_loader
from loaders.loader_process import process as process_module
from loaders.loader_process.process import LoaderProcess
from loaders.loader_process.process_producer import ProcessProducer
from shards.format.manifest import Manifest
from tests.loaders.first_code import run_first
from tests.loaders.loader_process.test_process import assert_same, open_beside

_FUSED = "loaders.engines.fused.render_video"


def _before_each_video(module: str, action: str) -> str:
    """Code for `run_first`: the engine does something before it renders a video."""
    return f"""
import time
import {module} as engine
original = engine.render_video

def changed(*arguments):
    {action}
    return original(*arguments)

engine.render_video = changed
"""


def test_an_iteration_that_is_left_renders_no_more(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even for the many slots that are free."""
    path = tmp_path / "rendered"
    action = f"with open({str(path)!r}, 'a') as file: file.write('.')"
    run_first(_before_each_video(_FUSED, action), tmp_path, monkeypatch)
    options: dict[str, Any] = {"batch_size": 1, "max_kept_batches": 60, "num_workers": 1}
    with open_beside(numbered_shards, tiny_views, **options) as loader:
        batches = loader.stream()
        next(batches)
        batches.close()
        assert path.stat().st_size < 10  # that batch, and the few in work after it


def test_a_forked_process_leaves_the_iteration_alone(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    with (
        open_beside(numbered_shards, tiny_views, batch_size=2) as beside,
        open_loader(numbered_shards, tiny_views, batch_size=2, in_process=True) as here,
    ):
        batches, expected = beside.stream(), here.stream()
        assert_same(next(batches), next(expected))
        forked = os.fork()
        if forked == 0:
            try:
                batches.close()
            finally:
                os._exit(0)
        os.waitpid(forked, 0)
        for _ in range(10):
            assert_same(next(batches), next(expected))


def test_threads_end_with_their_last_loader(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A pool starts a thread if all others are at work.
    run_first(_before_each_video(_FUSED, "time.sleep(0.3)"), tmp_path, monkeypatch)
    # The process lives as long as a loader.
    with open_beside(numbered_shards, tiny_views, batch_size=2) as first:
        assert isinstance(first.producer, ProcessProducer)
        tasks = Path(f"/proc/{first.producer.process.pid}/task")
        before = len(list(tasks.iterdir()))
        for number in (16, 20, 24):
            options = {"batch_size": 1, "num_workers": number}
            with open_beside(numbered_shards, tiny_views, **options) as loader:
                batches = loader.stream()  # an iteration that is dropped ends
                next(batches)
                assert len(list(tasks.iterdir())) >= before + number
            # Libraries may keep a few threads of their own.
            assert len(list(tasks.iterdir())) < before + 8


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGRTMIN + 2, f"signal {signal.SIGRTMIN + 2}"), (10, "SIGUSR1")]
)
def test_any_signal_is_named(new_process: LoaderProcess, number: int, name: str) -> None:
    os.kill(new_process.pid, number)
    assert f"was killed by {name}" in str(new_process.death())


def test_an_exit_code_that_somebody_took_is_not_an_interrupt(new_process: LoaderProcess) -> None:
    os.kill(new_process.pid, signal.SIGKILL)
    os.waitpid(new_process.pid, 0)
    assert "how is unknown" in str(new_process.death())


def test_torch_has_one_thread_in_each_thread_of_the_reference(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "threads"
    action = f"open({str(path)!r}, 'w').write(str(torch.get_num_threads()))"
    code = _before_each_video("loaders.engines.reference", action)
    run_first(f"import torch\ntorch.set_num_threads(2)\n{code}", tmp_path, monkeypatch)
    with open_beside(numbered_shards, tiny_views, engine="reference", batch_size=2) as loader:
        next(loader.stream())
    assert path.read_text() == "1"


def test_a_process_that_is_silent_is_an_error_in_the_end(
    new_process: LoaderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_PATIENCE_S", 0.01)
    assert f"({new_process.pid}) does not answer any more" in str(new_process.death())
