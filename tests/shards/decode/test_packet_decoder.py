"""Packets go to FFmpeg as it wants them, and few decoders stay open."""

import ctypes
import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from shards.decode.packet_decoder import DecodeError, PacketDecoders, in_turns, padded_packet
from shards.encode.recipe import Recipe
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.make_videos import make_video

# FFmpeg's AV_INPUT_BUFFER_PADDING_SIZE.
PADDING_BYTES = 64


def test_zeros_lie_behind_a_packet() -> None:
    """A decoder reads past the end, and what it gives must not depend on other memory."""
    for num_bytes in (1, 63, 64, 1000):
        packet = padded_packet(b"\xff" * num_bytes)
        found = ctypes.string_at(packet.buffer_ptr, num_bytes + PADDING_BYTES)
        assert found == b"\xff" * num_bytes + bytes(PADDING_BYTES)


def test_frames_come_in_turns_and_nobody_keeps_those_of_an_earlier_turn() -> None:
    """So the decoder uses their memory again."""
    frames = (VideoFrame(16, 16, "yuv420p") for _ in range(40))
    turns, sizes = [], []
    for k, turn in in_turns(frames):
        assert not any(turns)
        turns.append(turn)
        sizes.append((k, len(turn)))
    assert sizes == [(0, 16), (16, 16), (32, 8)]
    assert not any(turns)


def test_eight_decoders_stay_open_and_the_longest_unused_one_goes(tmp_path: Path) -> None:
    """Every picture size needs a decoder of its own, and a set may have hundreds of sizes."""
    for number in range(12):
        path = tmp_path / "videos" / "a" / f"v{number:02}.mp4"
        make_video(path, num_frames=2, height=48, width=48 + 16 * number)
    source = from_folder(tmp_path / "videos")
    ingest(source, tmp_path / "shards", recipe=Recipe(codec="mjpeg"), workers=1)
    manifest = read_manifest(tmp_path / "shards")
    with ShardReader(manifest) as reader:
        windows = [reader.read_window(row, 0, 1) for row in range(len(manifest))]
    assert len({window.size for window in windows}) == 12
    before, decoders = set(_open_decoders()), PacketDecoders()

    def shown(row: int) -> list[np.ndarray]:
        return [frame.to_ndarray() for frame in decoders.frames(windows[row], [0, 1])]

    first = [shown(row) for row in range(12)]
    kept = set(_open_decoders()) - before
    assert len(kept) == 8
    for row in range(4, 12):  # the eight that were used last
        assert np.array_equal(shown(row), first[row])
    assert set(_open_decoders()) - before == kept
    assert np.array_equal(shown(0), first[0])
    assert len(set(_open_decoders()) - before - kept) == 1


def _open_decoders() -> list[int]:
    gc.collect()
    # `isinstance` would ask the objects of other libraries too, and some of them warn then.
    found = [x for x in gc.get_objects() if type(x) is VideoCodecContext]
    return [id(decoder) for decoder in found if decoder.is_open]


def test_a_decoder_that_failed_is_thrown_away(tmp_path: Path) -> None:
    make_video(tmp_path / "videos" / "a" / "v.mp4", num_frames=6, height=48, width=64)
    ingest(from_folder(tmp_path / "videos", min_per_class=1), tmp_path / "shards", workers=1)
    with ShardReader(read_manifest(tmp_path / "shards")) as reader:
        window = reader.read_window(0, 0, 5)
    before, decoders = set(_open_decoders()), PacketDecoders()
    list(decoders.frames(window, [0, 5]))
    assert len(set(_open_decoders()) - before) == 1
    with pytest.raises(DecodeError):
        list(decoders.frames(replace(window, data=bytes(len(window.data))), [0, 5]))
    assert set(_open_decoders()) <= before
    list(decoders.frames(window, [0, 5]))
    assert len(set(_open_decoders()) - before) == 1


def test_a_packet_that_shows_no_picture_is_an_error(tmp_path: Path) -> None:
    """A damaged stream may say so of any picture, and FFmpeg itself takes that as no error."""
    make_video(tmp_path / "videos" / "a" / "v.mp4", num_frames=6, height=48, width=64)
    source, recipe = from_folder(tmp_path / "videos", min_per_class=1), Recipe(codec="vp9")
    ingest(source, tmp_path / "shards", recipe=recipe, workers=1)
    with ShardReader(read_manifest(tmp_path / "shards")) as reader:
        window = reader.read_window(0, 0, 5)
    hidden = bytearray(window.data)
    hidden[0] &= ~0b10  # the bit that shows a frame, in the header of VP9's keyframe
    with pytest.raises(DecodeError, match="frame 0 does not decode"):
        list(PacketDecoders().frames(replace(window, data=bytes(hidden)), [5]))


def test_a_picture_of_another_size_is_an_error(tmp_path: Path) -> None:
    """The manifest's size must not be more than a picture has, because memory is read by it."""
    make_video(tmp_path / "videos" / "a" / "v.mp4", num_frames=6, height=48, width=64)
    ingest(from_folder(tmp_path / "videos", min_per_class=1), tmp_path / "shards", workers=1)
    with ShardReader(read_manifest(tmp_path / "shards")) as reader:
        window = reader.read_window(0, 0, 5)
    height, width = window.size
    for size in ((6000, width), (height, 6000), (height - 16, width)):
        with pytest.raises(DecodeError, match=f"picture of {height}x{width}"):
            list(PacketDecoders().frames(replace(window, size=size), [5]))
