"""A worker that dies twice on one video, or whose parent is gone."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from shards.encode.encoded import Encoded
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.skipped_jsonl import SKIPPED_NAME
from shards.ingestion.ingest import ingest
from shards.ingestion.passes import Pass
from shards.ingestion.worker import Worker
from shards.sources.folder import from_folder
from shards.sources.segment import Segment
from tests.forks import running, write_outputs
from tests.make_videos import make_video
from tests.shards import damage
from tests.shards.helpers import children_of, has_open


def _ingest_and_tell(root: Path, out: Path, folder: Path, executable: str = sys.executable) -> None:
    write_outputs(folder)
    sys.executable = executable
    try:
        report = ingest(from_folder(root), out, workers=1)
        entry = json.loads((out / SKIPPED_NAME).read_text())
        print(f"{report.num_videos} {report.num_skipped}: {entry['reason']}")
    except InputError as error:
        print(error)


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
    root, out = tmp_path / "set", tmp_path / "out"
    with running(_ingest_and_tell, root, out, tmp_path) as process:
        assert process.pid is not None
        killed: list[int] = []
        while len(killed) < 2:
            assert process.exitcode is None
            for worker in set(children_of(process.pid)) - set(killed):
                if has_open(worker, "endless.mkv"):
                    os.kill(worker, how)
                    killed.append(worker)
            time.sleep(0.01)
        process.join(60)
        assert process.exitcode == 0
    assert expected in (tmp_path / "stdout").read_text()


def test_a_worker_that_does_not_start_is_no_error_of_the_disk(tmp_path: Path) -> None:
    make_video(tmp_path / "set" / "a" / "0.mp4", num_frames=4)
    make_video(tmp_path / "set" / "a" / "1.mp4", num_frames=4)
    root, out = tmp_path / "set", tmp_path / "out"
    with running(_ingest_and_tell, root, out, tmp_path, "/none/python") as process:
        process.join(60)
        assert process.exitcode == 0
    output = (tmp_path / "stdout").read_text()
    assert "/none/python: a worker process does not start (No such file or directory)" in output
    assert "--out" not in output


@contextmanager
def _idle_worker(path: Path) -> Iterator[tuple[int, Encoded]]:
    """The process of a worker that has encoded a video, and the result."""
    others = set(children_of(os.getpid()))
    worker = Worker()
    try:
        (result,) = worker.encode(Pass(path=path, parts=(None,)), Recipe(), 60)
        assert isinstance(result, Encoded)
        (child,) = set(children_of(os.getpid())) - others
        yield child, result
    finally:
        worker.stop()
        worker.close()


def test_a_worker_loads_no_library_that_it_does_not_use(tmp_path: Path) -> None:
    """A machine may have a hundred workers, and a library takes memory and time in each."""
    with _idle_worker(make_video(tmp_path / "0.mp4", num_frames=4)) as (child, result):
        assert result.packets is not None  # the proof ran
        loaded = Path(f"/proc/{child}/maps").read_text()
    assert "libavcodec" in loaded
    assert "libarrow" not in loaded
    assert "libtorch" not in loaded


def test_a_worker_whose_parent_is_gone_says_nothing(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=4)
    request = (Pass(path=path, parts=(None,)), Recipe())
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "shards.ingestion.worker"]
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert worker.stdout is not None
    worker.stdout.close()
    _, errors = worker.communicate(pickle.dumps(request))
    assert errors == b""
    assert worker.returncode == 0


def test_a_request_never_gets_the_answers_to_another_one(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=8)
    starts = [Segment(start_s=Fraction(number, 25)) for number in range(3)]
    worker = Worker()
    try:
        first = worker.encode(Pass(path=path, parts=tuple(starts)), Recipe(), 60)
        next(first)
        first.close()
        (result,) = worker.encode(Pass(path=path, parts=(None,)), Recipe(), 60)
    finally:
        worker.stop()
        worker.close()
    assert isinstance(result, Encoded)
    assert result.num_frames == 8


def test_a_worker_has_a_limit_of_memory(tmp_path: Path) -> None:
    path = make_video(tmp_path / "0.mp4", num_frames=4)
    with _idle_worker(path) as (child, _):
        limits = Path(f"/proc/{child}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max data size"))
    assert line.split()[3] == str(4 * 2**30 + 4 * path.stat().st_size)


_SHORT_OF_MEMORY = """
import pathlib, resource, sys
from shards.encode.recipe import Recipe
from shards.encode.encoded import Encoded
from shards.ingestion.passes import Pass
from shards.ingestion.worker import Worker
# What a worker has when it is idle, and 100 MB more.
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = 1024 * int(lines["VmData"].split()[0]) + 100_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
worker = Worker()
for path in map(pathlib.Path, sys.argv[1:]):
    (result,) = worker.encode(Pass(path=path, parts=(None,)), Recipe(), 60)
    print(result.num_frames if isinstance(result, Encoded) else result)
worker.stop()
worker.close()
"""


def test_a_header_that_wants_too_much_memory_costs_only_its_file(tmp_path: Path) -> None:
    bombs = [
        damage.index_bomb(tmp_path / "index.mp4", num_promised=8_000_000),
        damage.bomb(tmp_path / "pictures.gif", side_px=5900),
    ]
    good = make_video(tmp_path / "good.mp4", num_frames=4)
    command = [sys.executable, "-c", _SHORT_OF_MEMORY, *map(str, [*bombs, good])]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert output.splitlines() == [
        "index.mp4: 0 frames",
        "pictures.gif: too little memory: the video is too large, or its header promises too much",
        "4",
    ]
