"""The packet index: what is written is read, and nonsense is refused."""

import hashlib
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.format.packet_index import PacketsFile, packets_file
from shards.format.packets import Packets, PacketsError

sizes = st.lists(st.integers(1, 2**20), min_size=1, max_size=60)


@st.composite
def some_packets(draw: st.DrawFn) -> Packets:
    frames = np.array(draw(sizes), np.int64)
    others = draw(st.sets(st.integers(1, len(frames)).filter(lambda n: n < len(frames))))
    starts = np.array([0, *sorted(others)], np.int64)
    checksums = draw(
        st.lists(st.integers(0, 2**32 - 1), min_size=len(starts), max_size=len(starts))
    )
    return Packets(
        first_byte=draw(st.integers(0, 2**40)),
        sizes=frames,
        gop_frames=starts,
        checksums=np.array(checksums, np.int64),
        extradata=draw(st.binary(max_size=50)),
    )


@given(rows=st.lists(st.one_of(st.none(), some_packets()), min_size=1, max_size=8))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Packets | None]
) -> None:
    path = tmp_path_factory.mktemp("packets") / "a.packets.arrow"
    path.write_bytes(packets_file(rows))
    file = PacketsFile(path)
    assert len(file) == len(rows)
    for place, row in enumerate(rows):
        found = file.row(place)
        if row is None:
            assert len(found.sizes) == 0
        else:
            assert found == row
            found.check(len(row.sizes), row.first_byte + int(row.sizes.sum()))
    for place in (-1, len(rows)):
        with pytest.raises(PacketsError, match="none for video"):
            file.row(place)


@pytest.mark.parametrize(("largest", "width"), [(2**16 - 1, 2), (2**16, 4)])
def test_it_takes_two_bytes_a_frame_and_eight_a_group(largest: int, width: int) -> None:
    """docs/sharding.md says so, and what follows for UCF101: 13,320 videos of 7.21 s at 25 fps."""
    num_videos, num_frames, gop_frames = 666, 180, np.arange(0, 180, 16)
    video = _packets(
        sizes=np.full(num_frames, largest),
        gop_frames=gop_frames,
        checksums=0 * gop_frames,
        extradata=bytes(42),  # as x264 makes it
    )
    size = len(packets_file([video] * num_videos))
    rows = num_videos * (width * num_frames + 8 * len(gop_frames) + 42 + 24)
    assert rows <= size <= rows + 2048
    if width == 2:
        assert round(size * 13_320 / num_videos / 1e6) == 7


def test_the_same_content_gives_the_same_bytes() -> None:
    packets = _packets()
    assert packets_file([packets, None]) == packets_file([packets, None])
    assert packets == _packets()
    assert packets.sha256() != _packets(extradata=b"other").sha256()
    assert packets.sha256() != _packets(first_byte=49).sha256()


@given(packets=some_packets())
def test_the_digest_is_what_docs_sharding_md_says(packets: Packets) -> None:
    counts = [packets.first_byte, len(packets.sizes), len(packets.gop_frames)]
    numbers = [counts, packets.sizes, packets.gop_frames, packets.checksums]
    content = b"".join(struct.pack("<q", number) for part in numbers for number in part)
    assert packets.sha256() == hashlib.sha256(content + packets.extradata).hexdigest()


@given(packets=some_packets(), data=st.data())
def test_the_gops_of_a_window_cover_it_and_no_more(packets: Packets, data: st.DataObject) -> None:
    num_frames = len(packets.sizes)
    first = data.draw(st.integers(0, num_frames - 1))
    last = data.draw(st.integers(first, num_frames - 1))
    place = packets.byte_range(first, last)
    starts = packets.gop_frames.tolist()
    ends = [*starts[1:], num_frames]
    shown = [gop for gop in range(len(starts)) if starts[gop] <= last and ends[gop] > first]
    assert list(range(place.first_gop, place.first_gop + len(place.gop_frames))) == shown
    assert list(place.gop_frames) == [starts[gop] for gop in shown]
    assert list(place.checksums) == [packets.checksums[gop] for gop in shown]
    frames = slice(starts[shown[0]], ends[shown[-1]])
    assert np.diff(place.offsets).tolist() == packets.sizes[frames].tolist()
    assert place.begin == packets.first_byte + packets.sizes[: frames.start].sum()


@given(packets=some_packets(), data=st.data())
def test_later_windows_of_a_video_read_no_whole_row(
    tmp_path_factory: pytest.TempPathFactory, packets: Packets, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("packets") / "a.packets.arrow"
    path.write_bytes(packets_file([None, packets]))
    file = PacketsFile(path)
    num_frames = len(packets.sizes)
    about: dict[str, Any] = {
        "num_frames": num_frames,
        "num_bytes": packets.first_byte + int(packets.sizes.sum()),
        "sha256": packets.sha256(),
    }
    with pytest.raises(PacketsError, match="is not the one that was written"):
        file.byte_range(1, 0, 0, **{**about, "sha256": "0" * 64})
    assert file.byte_range(1, 0, num_frames - 1, **about) == packets.byte_range(0, num_frames - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PacketsFile, "row", None)
        for _ in range(3):
            first = data.draw(st.integers(0, num_frames - 1))
            last = data.draw(st.integers(first, num_frames - 1))
            assert file.byte_range(1, first, last, **about) == packets.byte_range(first, last)
        # As if the file had been changed since the check.
        with pytest.raises(PacketsError, match="reaches beyond the video"):
            file.byte_range(1, 0, num_frames - 1, **{**about, "num_bytes": packets.first_byte})


def _packets(**changes: object) -> Packets:
    content: dict[str, object] = {
        "first_byte": 48,
        "sizes": np.array([100, 10, 20, 90, 9]),
        "gop_frames": np.array([0, 3]),
        "checksums": np.array([1, 2]),
        "extradata": b"configuration",
    }
    return Packets(**{**content, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sizes": np.array([100, 10])}, "has 2 frames"),
        ({"checksums": np.array([1])}, "has 5 frames in 2 GOPs"),
        ({"gop_frames": np.array([1, 3])}, "not in order"),
        ({"gop_frames": np.array([0, 0])}, "not in order"),
        ({"gop_frames": np.array([0, 5])}, "not in order"),
        ({"first_byte": -1}, "beyond the video"),
        ({"first_byte": 49}, "beyond the video"),
        ({"sizes": np.array([100, 10, 20, 90, 0])}, "beyond the video"),
        ({"sizes": np.array([2**40, 10, 20, 90, 9])}, "beyond the video"),
        # In 64 bits, these sums are negative.
        ({"sizes": np.array([2**62, 2**62, 20, 90, 9])}, "beyond the video"),
        ({"first_byte": 2**63 - 1}, "beyond the video"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], reason: str) -> None:
    _packets().check(5, 277)
    with pytest.raises(PacketsError, match=reason):
        _packets(**changes).check(5, 277)


_READ = """
import sys
from pathlib import Path
from shards.format.packet_index import PacketsFile

def own_bytes():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(lines["RssAnon"].split()[0])

before = own_bytes()
file = PacketsFile(Path(sys.argv[1]))
for place in range(0, len(file), len(file) // 100):
    print(file.row(place).first_byte)
print(own_bytes() - before)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to read resident memory")
def test_an_index_of_a_million_videos_does_not_live_in_memory(tmp_path: Path) -> None:
    """Pages of the mapped file are the system's cache, which it takes back. They do not count."""
    num_rows, kinds = 10**6, [_packets(first_byte=48 + kind) for kind in range(3)]
    with pa.ipc.open_file(pa.py_buffer(packets_file(kinds))) as few:
        batch = few.get_batch(0).take(pa.array(np.arange(num_rows) % len(kinds)))
    path = tmp_path / "a.packets.arrow"
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    assert path.stat().st_size > 60_000_000
    command = [sys.executable, "-c", _READ, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *found, grown_bytes = map(int, done.stdout.split())
    assert found == [48 + place % len(kinds) for place in range(0, num_rows, num_rows // 100)]
    assert grown_bytes < 5_000_000


@pytest.mark.parametrize("content", [b"", b"rubbish", b"ARROW1" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.packets.arrow"
    path.write_bytes(content)
    with pytest.raises(PacketsError, match="is not a packet index"):
        PacketsFile(path)


@pytest.mark.parametrize("num_batches", [0, 1])
def test_a_file_with_other_columns_is_refused(tmp_path: Path, num_batches: int) -> None:
    path = tmp_path / "a.packets.arrow"
    batch = pa.record_batch({"other": [1]})
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        for _ in range(num_batches):
            writer.write_batch(batch)
    with pytest.raises(PacketsError, match="other columns"):
        PacketsFile(path)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.packets.arrow"
    with pa.ipc.open_file(pa.py_buffer(packets_file([None]))) as file:
        schema = file.schema
    pa.ipc.new_file(str(path), schema).close()
    with pytest.raises(PacketsError, match="is not a packet index"):
        PacketsFile(path)


def test_a_row_without_extradata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.packets.arrow"
    with pa.ipc.open_file(pa.py_buffer(packets_file([None, None]))) as file:
        batch = file.get_batch(0)
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns["extradata"] = pa.array([b"", None], pa.binary())
    batch = pa.record_batch(columns)
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(PacketsError, match="a row has no extradata"):
        PacketsFile(path)
