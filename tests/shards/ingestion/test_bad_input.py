"""Every file in the folder is stored, or left out with its name and a reason."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shards.encode.encoded import TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.format.manifest import read_manifest
from shards.format.skipped_jsonl import SKIPPED_NAME
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from shards.verification import verify
from tb.cli.shard import shard_app
from tests.make_videos import make_video
from tests.shards import damage

_BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty.mp4": (damage.zero_bytes, "the file is empty"),
    "notes.mp4": (damage.text, "not a video, or its header is damaged (Invalid data found"),
    "cut.mp4": (damage.truncated, "truncated: "),
    "sound.mp4": (damage.audio_only, "no video stream"),
    "boast.avi": (damage.boasting_avi, "the header promises 300 frames, 12 are there"),
    "hole.mp4": (damage.zeroed_middle, "frame 4 does not decode (Invalid data found"),
    "none.avi": (damage.no_frames, "0 frames"),
    "bomb.mp4": (damage.bomb, "too large for any decoder"),
    "bomb9000.mp4": (lambda path: damage.bomb(path, 9000), "pictures of 9000x9000, more pixels"),
    "clock.mkv": (damage.broken_clock, "the clock is broken: 4 frames in 1000000000 s"),
    "growing.mkv": (damage.growing_bomb, "the decoder refuses frame 4: too many pixels"),
}


def _grey(index: int) -> np.ndarray:
    return np.full((96, 128, 3), 40 + 5 * index, np.uint8)


_ODD: dict[str, Callable[[Path], Path]] = {
    "one_frame.mp4": lambda path: make_video(path, num_frames=1),
    "odd_sizes.mkv": lambda path: make_video(
        path, num_frames=5, height=97, width=131, pix_fmt="yuv444p"
    ),
    "tiny.mkv": lambda path: make_video(path, num_frames=5, height=8, width=8, codec="ffv1"),
    "444.mp4": lambda path: make_video(path, num_frames=5, pix_fmt="yuv444p"),
    "10_bit.mp4": lambda path: make_video(path, num_frames=5, pix_fmt="yuv420p10le"),
    "alpha.webm": lambda path: make_video(
        path, num_frames=5, codec="libvpx-vp9", pix_fmt="yuva420p"
    ),
    "rotated.mp4": lambda path: make_video(path, num_frames=5, rotation=90),
    "vfr.mkv": lambda path: make_video(path, num_frames=5, times=[0.0, 0.04, 0.12, 0.16, 0.3]),
    "interlaced.mpg": lambda path: make_video(
        path, num_frames=5, codec="mpeg2video", options={"flags": "+ildct+ilme"}
    ),
    "packed.avi": lambda path: damage.packed_b_frames(path, _grey),
    "x" * 200 + ".mp4": lambda path: make_video(path, num_frames=5),
    "caf\udce9.mp4": lambda path: make_video(path.with_name("temporary.mp4")).rename(path),
    "no_index.avi": damage.truncated_index,
}


def test_every_bad_file_is_left_out_by_name_and_every_odd_one_is_stored(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "a").mkdir(parents=True)
    makers = {name: make for name, (make, _) in _BAD.items()} | _ODD
    for name, make in makers.items():
        make(root / "a" / name)
    (root / "a" / "gone.mp4").symlink_to(root / "nowhere.mp4")
    (root / "a" / "outside.mp4").symlink_to(make_video(tmp_path / "outside.mp4", num_frames=3))
    os.mkfifo(root / "a" / "pipe.mp4")
    make_video(root / "b" / "444.mp4", num_frames=4)  # two videos with one key
    out = tmp_path / "out"
    report = ingest(from_folder(root, min_per_class=1), out)
    entries = [json.loads(line) for line in (out / SKIPPED_NAME).read_text().splitlines()]
    reasons = {entry["source"].removeprefix("a/"): entry["reason"] for entry in entries}
    expected = {name: reason for name, (_, reason) in _BAD.items()} | {
        "gone.mp4": "No such file",
        "outside.mp4": "a link out of the root; allow it with --follow-links",
        "pipe.mp4": "the file is empty",
    }
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], name
        assert str(tmp_path) not in reasons[name]
    assert (report.num_videos, report.num_skipped) == (len(_ODD) + 1, len(expected))
    assert {"a_444", "b_444"} <= set(read_manifest(out).keys)
    assert verify(out, decode=True) == []


@pytest.mark.parametrize("name", _BAD)
def test_copying_refuses_the_same_files(tmp_path: Path, name: str) -> None:
    make, reason = _BAD[name]
    path = make(tmp_path / name)
    with pytest.raises(TranscodeError, match=f"^{name}: .*{re.escape(reason)}"):
        transcode(path, Recipe(codec="copy"))


def test_a_decoder_that_does_not_end_is_ended(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for index in range(3):
        make_video(root / "a" / f"{index}.mp4", num_frames=4)
    out = tmp_path / "out"
    ingest(from_folder(root), out)  # without the limit, which a busy machine might exceed
    damage.endless(root / "a" / "endless.mkv")
    words = ["folder", "--root", str(root), "--out", str(out), "--append", "--workers", "1"]
    done = CliRunner().invoke(shard_app, [*words, "--time-limit", "1"])
    assert len(read_manifest(out)) == 3
    (line,) = (out / SKIPPED_NAME).read_text().splitlines()
    assert json.loads(line)["source"] == "a/endless.mkv"
    assert "not done within 1 s; raise the time limit" in line
    assert "1 of them for reasons that may have passed" in done.output


_TRY = """
import sys
from shards.sources.folder import from_folder
from shards.errors import InputError
from shards.ingestion.ingest import ingest
try:
    report = ingest(from_folder(sys.argv[1]), sys.argv[2], workers=1)
    print(report.num_videos, report.num_skipped)
except InputError as error:
    print(error)
"""


def _try_without_privileges(root: Path, out: Path, script: str = _TRY) -> str:
    """What an ingestion prints if file permissions apply to its process, even as root."""
    command = [sys.executable, "-c", script, str(root), str(out)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root can read everything, and there is no setpriv to prevent it")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_unreadable_files_are_left_out_and_unreadable_folders_named(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for index in range(3):
        make_video(root / "a" / f"{index}.mp4", num_frames=4)
    (root / "a" / "2.mp4").chmod(0)
    assert _try_without_privileges(root, tmp_path / "out") == "2 1\n"
    assert "Permission denied" in (tmp_path / "out" / SKIPPED_NAME).read_text()
    (root / "b").mkdir(mode=0)
    message = _try_without_privileges(root, tmp_path / "other")
    assert message.startswith(f"{root}/b: Permission denied; make it readable")
    (tmp_path / "closed" / "c").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    (root / "b").rmdir()
    (root / "b").symlink_to(tmp_path / "closed" / "c")
    message = _try_without_privileges(root, tmp_path / "other")
    assert message.startswith(f"{root}/b: Permission denied; make it readable")
    (root / "b").unlink()
    root.chmod(0o444)  # its names can be listed, and nothing in it can be reached
    message = _try_without_privileges(root, tmp_path / "other")
    root.chmod(0o755)
    assert message == f"{root}/a: Permission denied; make it readable, or move it away\n"


_INTERRUPTED_AT_THE_END = """
import sys
from shards.sources.folder import from_folder
from shards.ingestion.ingest import ingest
def interrupt(num_done, total, key):
    if num_done == total:
        raise KeyboardInterrupt
try:
    ingest(from_folder(sys.argv[1]), sys.argv[2], workers=1, shard_bytes=1, progress=interrupt)
except KeyboardInterrupt:
    pass
"""
_GO_ON = """
import sys
from shards.sources.folder import from_folder
from shards.ingestion.ingest import ingest
report = ingest(from_folder(sys.argv[1]), sys.argv[2], workers=1, shard_bytes=1)
print(report.num_videos, report.num_skipped, report.num_resumed > 0)
"""


def test_what_was_unreadable_for_a_while_is_not_lost(tmp_path: Path) -> None:
    root, whole, out = tmp_path / "set", tmp_path / "whole", tmp_path / "out"
    for index in range(6):
        make_video(root / "a" / f"{index}.mp4", num_frames=4, seed=index)
    damage.truncated(root / "a" / "cut.mp4")
    expected = ingest(from_folder(root), whole, shard_bytes=1)
    shut = root / read_manifest(whole).video(2).source
    shut.chmod(0)
    _try_without_privileges(root, out, _INTERRUPTED_AT_THE_END)
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert len(stamps) == 4
    still_shut = Path(shutil.copytree(out, tmp_path / "still_shut"))
    assert _try_without_privileges(root, still_shut, _GO_ON) == "5 2 True\n"
    assert stamps.items() <= {p.name: p.stat().st_mtime_ns for p in still_shut.iterdir()}.items()
    shut.chmod(0o644)
    report = ingest(from_folder(root), out, shard_bytes=1)
    assert report.num_resumed > 0
    assert (report.num_videos, report.digest) == (6, expected.digest)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in whole.iterdir()
    }


def test_an_output_that_may_not_be_written(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    message = _try_without_privileges(videos, tmp_path / "locked" / "out")
    assert "Permission denied; choose an --out that you may write to" in message


_ON_A_SMALL_DISK = """
import pathlib, subprocess, sys
from shards.sources.folder import from_folder
from shards.errors import InputError
from shards.ingestion.ingest import ingest
root, out = sys.argv[1:]
def run():
    return ingest(from_folder(root), pathlib.Path(out, "shards"), workers=1, shard_bytes=60_000)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150k", "none", out], check=True)
try:
    run()
except InputError as error:
    print(error)
print(len(list(pathlib.Path(out, "shards").glob("*.tar"))))
subprocess.run(["mount", "-o", "remount,size=9m", out], check=True)
report = run()
print(report.num_resumed > 0, report.digest)
print(len(list(pathlib.Path(out, "shards").glob(".ingest"))))
"""


def test_a_full_disk_keeps_what_is_finished(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    allowed = (
        shutil.which("unshare")
        and not subprocess.run(
            [*own_mounts, "mount", "-t", "tmpfs", "none", str(tmp_path / "disk")],
            capture_output=True,
            check=False,
        ).returncode
    )
    if not allowed:
        pytest.skip("no small disk can be mounted here")
    command = [*own_mounts, sys.executable, "-c", _ON_A_SMALL_DISK]
    result = subprocess.run(
        [*command, str(videos), str(tmp_path / "disk")], check=True, capture_output=True, text=True
    )
    message, num_finished, resumed, num_left = result.stdout.splitlines()
    assert "No space left on device; free some space and run again" in message
    assert int(num_finished) > 0
    expected = ingest(from_folder(videos), tmp_path / "out", shard_bytes=60_000).digest
    assert resumed == f"True {expected}"
    assert num_left == "0"
