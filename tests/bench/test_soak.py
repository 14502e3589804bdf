"""The soak finds nothing in our engines, and it notices what a loader does not give back."""

import json
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import TracebackType

import pytest

from bench import soak

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_engine_holds_more_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    command = [sys.executable, "-m", "bench.soak", "--epochs", "10", "--json", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {tuple(line.split()[:4]) for line in done.stdout.splitlines()[1:]}
    engines = ("fused", "reference", *(("dali",) if find_spec("nvidia.dali") else ()))
    processes = (("threads", "training"), ("process", "training"), ("process", "loader"))
    sets = ("vp9", "mjpeg", "copy")
    assert rows == {(*names, *which) for *names, which in product(sets, engines, processes)}
    written = json.loads(path.read_text())
    assert {(row["set"], row["engine"]) for row in written} == set(product(sets, engines))
    lengths = [len(held) for row in written for one in row["processes"] for held in one.values()]
    assert set(lengths) == {10}
    path.unlink()
    # Torch makes a folder for its compiler there.
    assert all(path.name.startswith("torchinductor") for path in tmp_path.iterdir())


class _Leaky:
    """A loader that keeps what `leak` gives, once an epoch."""

    kept: tuple[object, ...] = ()

    def __init__(self, leak: Callable[[], object]) -> None:
        self._leak = leak

    def __enter__(self) -> "_Leaky":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def __iter__(self) -> Iterator[int]:
        _Leaky.kept = (*_Leaky.kept, self._leak())
        yield 0


def _thread() -> threading.Event:
    end = threading.Event()
    threading.Thread(target=end.wait, daemon=True).start()
    return end


def _shared_memory() -> mmap.mmap:
    memory = mmap.mmap(-1, 1_000_000)
    memory.write(bytes(1_000_000))  # A page is resident once it is used.
    return memory


def _child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "600"])


@pytest.mark.parametrize(
    ("leak", "field"),
    [
        (lambda: os.memfd_create("kept"), "training: descriptors"),
        (_thread, "training: threads"),
        (_child, "processes"),
        (_shared_memory, "training: shared_bytes"),
        (lambda: b"x" * 100_000_000, "training: memory_bytes"),
    ],
)
def test_what_is_kept_is_noticed(
    monkeypatch: pytest.MonkeyPatch, leak: Callable[[], object], field: str
) -> None:
    monkeypatch.setattr(soak, "open_loader", lambda *_, **__: _Leaky(leak))
    try:
        changes = soak.soaked(Path("set"), "fused", "cpu", True, 5).problems
        assert any(f"set, fused, threads: epoch 2 -> 5: {field} " in change for change in changes)
        assert any(f"set, fused, threads: after closing: {field} " in change for change in changes)
    finally:
        for one in _Leaky.kept:
            if isinstance(one, subprocess.Popen):
                one.kill()
                one.wait()
            elif isinstance(one, threading.Event):
                one.set()
            elif isinstance(one, int):
                os.close(one)
        _Leaky.kept = ()


_LEAKING_PROGRAM = """
import os, sys
kept = []
print(flush=True)
for line in sys.stdin:
    kept.append((os.memfd_create("kept"), b"x" * 100_000_000))
    print(flush=True)
"""


class _LeakyProcess(_Leaky):
    """A loader whose other process keeps a descriptor and 100 MB once an epoch."""

    def __enter__(self) -> "_LeakyProcess":
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LEAKING_PROGRAM],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __iter__(self) -> Iterator[int]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._answer()
        yield 0

    def _answer(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.readline()


def test_what_the_loader_process_keeps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "open_loader", lambda *_, **__: _LeakyProcess(lambda: None))
    changes = soak.soaked(Path("set"), "fused", "cpu", False, 5).problems
    where = "set, fused, process: epoch 2 -> 5: loader process: "
    fields = [change.removeprefix(where).split()[0] for change in changes]
    assert fields == ["descriptors", "memory_bytes"]
