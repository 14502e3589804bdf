"""A worker that dies twice on one video, or whose parent is gone."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shards.encode.recipe import Recipe
from tests.make_videos import make_video
from tests.shards import damage
from tests.shards.helpers import children_of

_RUN_AND_TELL = """
import json, pathlib, sys
from shards.sources.folder import from_folder
from shards.errors import InputError
from shards.ingestion.ingest import ingest
from shards.format.skipped import SKIPPED_NAME
try:
    report = ingest(from_folder(sys.argv[1]), sys.argv[2], workers=1)
    entry = json.loads(pathlib.Path(sys.argv[2], SKIPPED_NAME).read_text())
    print(f"{report.num_videos} {report.num_skipped}: {entry['reason']}")
except InputError as error:
    print(error)
"""


def _has_open(pid: int, name: str) -> bool:
    try:
        return any(os.readlink(path).endswith(name) for path in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:  # a file was closed, or the process has ended
        return False


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (signal.SIGSEGV, "2 1: crashed the decoder twice (SIGSEGV)"),
        (
            signal.SIGKILL,
            "endless.mkv: the worker process ended twice while working on it (SIGKILL",
        ),
    ],
)
def test_a_worker_that_dies_twice_on_one_video(
    tmp_path: Path, how: signal.Signals, expected: str
) -> None:
    for index in range(2):
        make_video(tmp_path / "set" / "a" / f"{index}.mp4", num_frames=4)
    damage.endless(tmp_path / "set" / "a" / "endless.mkv")
    command = [sys.executable, "-c", _RUN_AND_TELL, str(tmp_path / "set"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        killed: list[int] = []
        while len(killed) < 2:
            for worker in set(children_of(process.pid)) - set(killed):
                if _has_open(worker, "endless.mkv"):
                    os.kill(worker, how)
                    killed.append(worker)
            time.sleep(0.01)
        output = process.communicate(timeout=60)[0]
    assert expected in output


def test_a_worker_that_does_not_start_is_no_error_of_the_disk(tmp_path: Path) -> None:
    make_video(tmp_path / "set" / "a" / "0.mp4", num_frames=4)
    make_video(tmp_path / "set" / "a" / "1.mp4", num_frames=4)
    code = f"import sys; sys.executable = '/none/python'\n{_RUN_AND_TELL}"
    command = [sys.executable, "-c", code, str(tmp_path / "set"), str(tmp_path / "out")]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "/none/python: a worker process does not start (No such file or directory)" in output
    assert "--out" not in output


def test_a_worker_whose_parent_is_gone_says_nothing(tmp_path: Path) -> None:
    request = (make_video(tmp_path / "a.mp4", num_frames=4), Recipe())
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "shards.ingestion.worker"]
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert worker.stdout is not None
    worker.stdout.close()
    _, errors = worker.communicate(pickle.dumps(request))
    assert errors == b""
    assert worker.returncode == 0
