"""One opener for all: odd titles do not count, and nothing but the file itself is opened."""

import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import pytest

from shards.encode.encoded import TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.encode.video_stream import VideoFaultError, open_video
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.table import from_csv
from shards.verification import verify
from tests.make_videos import make_video
from tests.shards.damage import odd_metadata


def test_copies_have_the_extension_of_their_container_whatever_their_names(tmp_path: Path) -> None:
    names = ["a.json", "b", "c.m p4", "d." + "x" * 150, "e.mp4", "f.MP4", "g."]
    for index, name in enumerate(names):
        make_video(tmp_path / "v.mp4", num_frames=4, seed=index).rename(tmp_path / name)
    make_video(tmp_path / "v.mkv", num_frames=4).rename(tmp_path / "i.dat")
    table, out = tmp_path / "set.csv", tmp_path / "out"
    rows = [f"{name},x" for name in [*names, "i.dat"]]
    table.write_text("\n".join(["path,label", *rows]))
    ingest(from_csv(table), out, recipe=Recipe(codec="copy"))
    with tarfile.open(out / "shard-000000.tar") as tar:
        members = sorted(tar.getnames())
    keys = read_manifest(out).keys
    parts = {key: sorted(n.partition(".")[2] for n in members if n.startswith(key)) for key in keys}
    assert parts.pop("i") == ["json", "mkv"]
    assert list(parts.values()) == [["json", "mp4"]] * 7
    lines = (out / "shard-000000.idx").read_text().splitlines()[1:]
    assert all(len(line.split(" ")) == 8 for line in lines)
    assert verify(out, decode=True) == []


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.mov", "libx264"), ("a.mkv", "libx264")]
)
def test_titles_that_are_not_utf8_do_not_count(name: str, codec: str, tmp_path: Path) -> None:
    """Clips of HMDB51 have such titles."""
    (tmp_path / "plain").mkdir()
    plain = odd_metadata(tmp_path / "plain" / name, codec, b"one clip")
    odd = odd_metadata(tmp_path / name, codec, b"\xd3ne clip")
    assert transcode(odd, Recipe()).data == transcode(plain, Recipe()).data
    kept = transcode(odd, Recipe(codec="copy"))
    assert (kept.data, kept.num_frames) == (odd.read_bytes(), 12)


@contextmanager
def _listening() -> Iterator[tuple[int, list[object]]]:
    """A port of this machine, and who has connected to it; every connection is closed at once."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):  # the server has shut down
                while True:
                    connection, caller = server.accept()
                    callers.append(caller)
                    connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1], callers
        finally:
            server.shutdown(socket.SHUT_RDWR)  # which ends the wait
            thread.join()


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video {} RTP/AVP 96\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (HLS, "other.ts"),
        (CONCAT, "other.ts"),
        (HLS, "http://127.0.0.1:{port}/a.ts"),
        (CONCAT, "http://127.0.0.1:{port}/a.ts"),
        (SDP, "{port}"),
    ],
)
def test_a_playlist_opens_no_other_file_and_no_connection(
    text: str, place: str, tmp_path: Path
) -> None:
    make_video(tmp_path / "other.ts", num_frames=4, codec="mpeg2video")
    path = tmp_path / "a.m3u8"
    with _listening() as (port, callers):
        path.write_text(text.format(place.format(port=port)))
        with pytest.raises(TranscodeError):
            transcode(path, Recipe())
        for source in (path, path.read_bytes()):
            with pytest.raises(VideoFaultError), open_video(source):
                pass
        assert callers == []


def test_a_file_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "a.mp4", num_frames=4)
    with _listening() as (port, callers):
        for name in (f"http:/127.0.0.1:{port}/a.mp4", "concat:a.mp4", f"tcp:/127.0.0.1:{port}"):
            with pytest.raises(av.FFmpegError), open_video(Path(name)):
                pass
        assert callers == []
    make_video(tmp_path / "take:1.mp4", num_frames=4)
    assert transcode(Path("take:1.mp4"), Recipe()).num_frames == 4


def test_ffmpeg_may_open_nothing_but_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second lock: no demuxer that is allowed is known to open an address."""
    make_video(tmp_path / "a.mp4", num_frames=4)
    options, opened = [], av.open

    def noted(*given: Any, **more: Any) -> Any:
        options.append(more["options"])
        return opened(*given, **more)

    monkeypatch.setattr(av, "open", noted)
    for source in (tmp_path / "a.mp4", (tmp_path / "a.mp4").read_bytes()):
        with open_video(source):
            pass
    assert [one["protocol_whitelist"] for one in options] == ["file"] * 2


def test_ffmpeg_itself_does_open_such_a_name() -> None:
    """The control of the test above: the port is there, and FFmpeg can reach it."""
    with _listening() as (port, callers):
        with pytest.raises(av.FFmpegError):
            av.open(f"http:/127.0.0.1:{port}/a.mp4")
        assert len(callers) == 1


_REFUSED = """
import av, sys
from pathlib import Path
from shards.encode.video_stream import VideoFaultError, open_video
av.logging.set_level(av.logging.ERROR)
try:
    with open_video(Path(sys.argv[1])):
        pass
except VideoFaultError as error:
    print(error)
"""


def test_what_ffmpeg_logs_is_not_printed(tmp_path: Path) -> None:
    """Some libraries set the level of FFmpeg's log, torchvision 0.25 when it is imported."""
    path = make_video(tmp_path / "a.mp4", num_frames=4)
    path.write_bytes(path.read_bytes()[:200])
    done = subprocess.run(
        [sys.executable, "-c", _REFUSED, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("not a video, or its header is damaged")
    assert done.stderr == ""
