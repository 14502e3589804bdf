"""Writers of one file do not disturb each other, and what a killed writer leaves is removed."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from shards.files.publish import UNFINISHED, publish_bytes, publish_file, unfinished_file


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_writers_of_one_file_do_not_mix_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with unfinished_file(path) as one, unfinished_file(path) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
        publish_file(one, path)
        assert path.read_bytes() == b"one"
        publish_file(other, path)
    assert path.read_bytes() == b"other"
    assert _names(tmp_path) == ["file"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    publish_bytes(path, b"old")
    with suppress(ZeroDivisionError), unfinished_file(path) as unfinished:
        unfinished.write_bytes(b"ne")
        _ = 1 / 0
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_a_published_file_has_the_usual_permissions(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "published", b"")
    (tmp_path / "usual").touch()
    assert (tmp_path / "published").stat().st_mode == (tmp_path / "usual").stat().st_mode


_WRITE = """
import sys, time
from pathlib import Path
from shards.files.publish import unfinished_file
with unfinished_file(Path(sys.argv[1])) as unfinished:
    unfinished.write_bytes(b"half")
    print("written", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_writer_leaves_is_removed_after_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "file"
    command = [sys.executable, "-c", _WRITE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(UNFINISHED)
    publish_bytes(tmp_path / "another", b"")
    assert left.exists()  # its writer might be alive
    users = tmp_path / f"my{UNFINISHED}"
    users.touch()
    for old in (left, users):
        os.utime(old, (0, os.stat(old).st_mtime - 3700))
    publish_bytes(tmp_path / "another", b"")
    assert _names(tmp_path) == ["another", users.name]
