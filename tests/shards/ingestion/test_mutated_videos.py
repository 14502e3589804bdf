"""Hundreds of bad files in one ingestion: each is stored and decodes, or its reason is listed."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shards.encode.probe import open_probed
from shards.encode.video_stream import VideoFaultError
from shards.files.video_names import has_video_name
from shards.format.manifest import read_manifest
from shards.format.skipped_jsonl import SKIPPED_NAME
from shards.verification import verify
from tests.make_videos import make_video
from tests.shards.mutated_videos import write_mutations

# What is wrong with a file. FFmpeg's reason alone ("Invalid argument") does not say it.
_REASONS = re.compile(
    r"the file is empty"
    r"|truncated: \d+ bytes are missing at the end"
    r"|not a video, or its header is damaged \(.+\)"
    r"|no video stream"
    r"|no decoder for its video stream"
    r"|the header has no picture size, or one too large for any decoder"
    r"|pictures of \d+x\d+, more pixels than 8192x4320"
    r"|pictures of \d+x\d+ px are too elongated: .+"
    r"|0 frames"
    r"|the header promises \d+ frames, \d+ are there"
    r"|it cannot be read to its end \(.+\)"
    r"|damaged data after \d+ packets"
    r"|the clock is broken: \d+ frames in \d+ s"
    r"|shorter than one frame at \d+ frames per second"
    r"|frame \d+ is damaged"
    r"|frame \d+ does not decode \(.+\)"
    r"|the decoder refuses frame \d+: too many pixels, or broken"
    r"|only \d+ of \d+ frames decode"
    r"|the picture size( or format)? changes(| at frame \d+| between frames)"
    r"|too little memory: the video is too large, or its header promises too much"
    r"|crashed the decoder twice \(SIG\w+\)"
    r"|not done within \d+ s; raise the time limit"
)
# A worker that decodes a good video of this size takes 0.1 GiB.
_MAX_WORKER_BYTES = 1 << 30
# The ingesting process takes 0.12 GiB, because it decodes nothing.
_MAX_OWN_BYTES = 1 << 28

_INGEST = """
import resource, sys
from shards.encode.recipe import Recipe
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
root, out, codec = sys.argv[1:]
size = {} if codec == "copy" else {"short_side_px": 144, "quality": 30}
ingest(
    from_folder(root, min_per_class=1), out, recipe=Recipe(codec=codec, **size), time_limit_s=30
)
# Not `ru_maxrss`, which is at least the size of the process that started this one.
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(1024 * int(line.split()[1]))
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _originals(folder: Path) -> list[Path]:
    """Good videos, one for each container and codec."""
    makers = {
        "h264.mp4": "libx264",
        "h264.mov": "libx264",
        "h264.ts": "libx264",
        "h264.flv": "libx264",
        "hevc.mkv": "libx265",
        "mpeg4.avi": "mpeg4",
        "mpeg2.mpg": "mpeg2video",
        "vp9.webm": "libvpx-vp9",
        "mjpeg.avi": "mjpeg",
    }
    options = {"libx265": {"x265-params": "log-level=none:pools=none"}}
    return [
        make_video(
            folder / name,
            num_frames=20,
            codec=codec,
            seed=index,
            pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
            options=options.get(codec),
        )
        for index, (name, codec) in enumerate(makers.items())
    ]


def _check(tmp_path: Path, originals: Sequence[Path], num_files: int, codec: str) -> None:
    """Ingests changed copies of the originals, and accounts for each of them."""
    root, out = tmp_path / "set", tmp_path / "out"
    written = write_mutations(root / "a", originals, num_files)
    # In a process of its own, which has no other children.
    command = [sys.executable, "-c", _INGEST, str(root), str(out), codec]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    own_bytes, worker_bytes = map(int, printed.split())
    manifest = read_manifest(out)
    stored = manifest.table.column("source").to_pylist()
    entries = [json.loads(line) for line in (out / SKIPPED_NAME).read_text().splitlines()]
    reasons = {entry["source"]: entry["reason"] for entry in entries}
    assert sorted([*stored, *reasons]) == sorted(f"a/{path.name}" for path in written)
    assert [one for one in reasons.items() if not _REASONS.fullmatch(one[1])] == []
    assert verify(out, decode=True) == []
    # Otherwise the changes are too small, or so large that the decoders see none of them.
    assert 0.1 < len(stored) / num_files < 0.7
    assert own_bytes < _MAX_OWN_BYTES
    assert worker_bytes < _MAX_WORKER_BYTES


@pytest.mark.parametrize("codec", ["h264", "copy"])
def test_every_bad_file_is_stored_whole_or_listed_with_a_reason(tmp_path: Path, codec: str) -> None:
    _check(tmp_path, _originals(tmp_path / "good"), 63, codec)


def test_zeros_up_to_the_end_have_a_reason(tmp_path: Path) -> None:
    """From some places on, FFmpeg's demuxer says "Resource temporarily unavailable"."""
    path = tmp_path / "a.ts"
    data = make_video(path, num_frames=20).read_bytes()
    reasons = []
    for start in range(2000, len(data) - 200, 101):
        path.write_bytes(data[:start] + bytes(len(data) - start))
        try:
            with open_probed(path):
                pass
        except VideoFaultError as error:
            reasons.append(str(error))
    assert reasons
    assert [one for one in reasons if not _REASONS.fullmatch(one)] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("codec", "num_files"),
    # Files are read in the same way for each codec, and VP9 and HEVC are slow to encode.
    [("h264", 1000), ("copy", 1000), ("mjpeg", 1000), ("hevc", 200), ("vp9", 200)],
)
def test_a_thousand_bad_files(tmp_path: Path, codec: str, num_files: int) -> None:
    _check(tmp_path, _originals(tmp_path / "good"), num_files, codec)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("codec", ["h264", "copy"])
def test_a_thousand_changes_of_public_clips(
    shared: Callable[[str], Path], tmp_path: Path, codec: str
) -> None:
    found = sorted(path for path in shared("videos").rglob("*") if has_video_name(path.name))
    _check(tmp_path, found, 1000, codec)
