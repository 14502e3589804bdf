"""One holder at a time, in this process and in others; a killed process holds nothing."""

import errno
import fcntl
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from shards.errors import InputError
from shards.files.lock import BusyError, locked

_HOLD = """
import sys, time
from pathlib import Path
from shards.files.lock import locked
with locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def _held_by_another_process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_another_process_is_kept_out_until_the_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with _held_by_another_process(path) as process:
        with (
            pytest.raises(BusyError, match=r"^somebody is there$"),
            locked(path, "somebody is there"),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(path, "busy"):
            pass


def test_two_calls_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, "busy"):
        with pytest.raises(InputError, match="busy"), locked(path, "busy"):
            pass
        with pytest.raises(InputError, match="busy"), locked(path, "busy", patience_s=0.2):
            pass
    with locked(path, "busy"):
        pass


def test_the_lock_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, "busy"):
        inode = path.stat().st_ino
    assert path.stat().st_ino == inode


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), locked(path, "busy"):
        _ = 1 / 0
    with locked(path, "busy"):
        pass


@pytest.mark.parametrize("patience_s", [60.0, float("inf")])
def test_who_has_patience_waits(tmp_path: Path, patience_s: float) -> None:
    path = tmp_path / "lock"
    seen: list[float] = []

    def wait() -> None:
        with locked(path, "busy", patience_s=patience_s):
            seen.append(time.monotonic())

    thread = Thread(target=wait)
    with locked(path, "busy"):
        thread.start()
        time.sleep(0.3)
        assert not seen
        freed = time.monotonic()
    thread.join(timeout=30)
    assert seen
    assert seen[0] >= freed


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING, logger="shards.files.lock"):
        for _ in range(2):
            with locked(tmp_path / "lock", "busy"):
                pass
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: this file system has no locks: do not run two commands that write there at"
        " once; only copies of remote shards are safe"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_other_errors_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"), locked(tmp_path, "busy"):
        pass
