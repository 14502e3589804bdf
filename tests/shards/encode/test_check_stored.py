"""The proof of a packet index: it passes what training may read, and nothing else."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.decode import window_planes as window_module
from shards.decode.packet_decoder import (
    PacketDecoders,
    in_turns,
    pyav_proof_planes,
    turns_of_planes,
)
from shards.encode import check_stored as checking
from shards.encode.check_stored import (
    find_packets,
    has_same_pictures,
    packets_in,
    planes_alone,
)
from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from shards.files.machine_errors import MachineError
from shards.format.manifest import read_manifest
from shards.format.packets import Packets
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.make_videos import make_video
from tests.shards.helpers import decoded_frames

GOP = 4
NUM_FRAMES = 14


@pytest.fixture(scope="module", params=["h264", "hevc", "vp9"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    path = tmp_path_factory.mktemp("packets") / "a.mp4"
    make_video(path, num_frames=NUM_FRAMES, height=144, width=160)
    return transcode(path, Recipe(codec=request.param, gop=GOP))


def _is_proven(encoded: Encoded, packets: Packets) -> bool:
    size = (encoded.height, encoded.width)
    alone = planes_alone(packets, encoded.data, encoded.codec, size)
    return has_same_pictures(iter(decoded_frames(encoded.data)), alone, size)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(later=st.sets(st.integers(1, NUM_FRAMES - 1), max_size=4))
def test_groups_are_proven_only_if_each_begins_at_a_keyframe(
    encoded: Encoded, later: set[int]
) -> None:
    """The decoder forgets all pictures before each group, so a wrong border cannot hide."""
    assert encoded.packets is not None
    starts = np.array([0, *sorted(later)])
    moved = replace(encoded.packets, gop_frames=starts, checksums=np.zeros(len(starts), np.int64))
    assert _is_proven(encoded, moved) == (not (starts % GOP).any())


@pytest.mark.parametrize("frame", [0, 5, NUM_FRAMES - 2])
def test_packets_that_begin_a_byte_early_are_not_proven(encoded: Encoded, frame: int) -> None:
    assert encoded.packets is not None
    sizes = encoded.packets.sizes.copy()
    sizes[frame] -= 1  # so all packets after it begin a byte early
    assert not _is_proven(encoded, replace(encoded.packets, sizes=sizes))


def test_one_wrong_or_missing_picture_is_no_proof(encoded: Encoded) -> None:
    assert encoded.packets is not None
    size = (encoded.height, encoded.width)
    pictures = list(decoded_frames(encoded.data))

    def are_same(whole: list[VideoFrame], alone: list[VideoFrame]) -> bool:
        return has_same_pictures(iter(whole), turns_of_planes(in_turns(iter(alone))), size)

    assert are_same(pictures, pictures)
    for others in (pictures[:-1], [*pictures[:-1], pictures[0]]):
        assert not are_same(pictures, others)
        assert not are_same(others, pictures)


def test_a_picture_with_other_colours_is_no_proof(encoded: Encoded) -> None:
    """The pixels are the same, but `fused` shows all frames with the colours of the first one."""
    assert encoded.packets is not None
    size, pictures = (encoded.height, encoded.width), list(decoded_frames(encoded.data))
    pictures[-1].color_range = ColorRange.JPEG
    assert not has_same_pictures(
        iter(pictures), planes_alone(encoded.packets, encoded.data, encoded.codec, size), size
    )


def test_the_proof_decodes_with_the_code_of_training(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encoded.packets is not None
    assert _is_proven(encoded, encoded.packets)
    decode, calls = window_module.decode_turn, []

    def wrong(*arguments: Any) -> int:
        next_packet: int = decode(*arguments)
        calls.append(next_packet)
        arguments[-1][-1, 0, 0] += 1  # the last picture begins a pixel late
        return next_packet

    with monkeypatch.context() as patch:
        patch.setattr(window_module, "decode_turn", wrong)
        assert not _is_proven(encoded, encoded.packets)
    assert calls == [NUM_FRAMES]


@pytest.mark.parametrize(("side", "sizes"), [(64, [16, 4]), (1024, [4] * 5), (4096, [1] * 20)])
def test_a_turn_of_larger_pictures_has_fewer_frames(
    monkeypatch: pytest.MonkeyPatch, side: int, sizes: list[int]
) -> None:
    """A worker's memory is limited, and pictures of 8K have 50 MB each."""
    given = Mock(return_value=iter([]))
    monkeypatch.setattr(checking, "_proof_decoder", lambda: given)
    packets = Packets(
        first_byte=0,
        sizes=np.ones(20, np.int64),
        gop_frames=np.array([0]),
        checksums=np.array([0]),
        extradata=b"",
    )
    list(planes_alone(packets, bytes(20), "h264", (side, side)))
    frames_per_turn = given.call_args.kwargs["frames_per_turn"]
    assert [len(range(k, min(k + frames_per_turn, 20))) for k in range(0, 20, frames_per_turn)] == (
        sizes
    )


def test_nothing_is_proven_where_compiled_code_refuses_a_packet(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV decodes it, but most windows of a training do not come to PyAV."""
    assert encoded.packets is not None
    monkeypatch.setattr(window_module, "decode_turn", lambda *_: -1)
    assert not _is_proven(encoded, encoded.packets)


def test_a_lack_of_memory_in_the_proof_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled code only says that a packet gives no picture, and PyAV then says why."""
    path = make_video(tmp_path / "a.mp4", num_frames=4)
    error = MachineError("this machine lacks memory")
    monkeypatch.setattr(window_module, "decode_turn", lambda *_: -1)
    monkeypatch.setattr(PacketDecoders, "frames", Mock(side_effect=error))
    with pytest.raises(TranscodeError, match=r"a\.mp4: this machine lacks memory") as raised:
        transcode(path, Recipe(gop=GOP))
    assert raised.value.may_pass


def test_without_compiled_code_pyav_proves(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then also decodes the windows of a training."""
    assert encoded.packets is not None
    monkeypatch.setitem(sys.modules, "shards.decode.window_planes", None)
    checking._proof_decoder.cache_clear()
    try:
        assert _is_proven(encoded, encoded.packets)
        assert checking._proof_decoder() is pyav_proof_planes
    finally:
        checking._proof_decoder.cache_clear()


def test_a_video_that_is_not_proven_is_stored_without_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its GOPs seem to begin a frame late, so they do not decode by themselves."""
    path = make_video(tmp_path / "a" / "a.mp4", num_frames=NUM_FRAMES)
    monkeypatch.setattr(checking, "packets_in", _second_half_moved)
    assert transcode(path, Recipe(gop=GOP)).packets is None


def _second_half_moved(
    container: InputContainer, stream: VideoStream, data: bytes
) -> Packets | None:
    packets = packets_in(container, stream, data)
    assert packets is not None
    return replace(packets, gop_frames=packets.gop_frames + (packets.gop_frames > 0))


@pytest.mark.parametrize(
    "options", [{"bf": "2"}, {"g": "8", "x264-params": "open-gop=1:bframes=2"}]
)
def test_files_with_reordered_frames_have_no_packets(
    tmp_path: Path, options: dict[str, str]
) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=NUM_FRAMES, options=options)
    assert find_packets(path.read_bytes()) is None


def test_copied_files_have_no_index(tmp_path: Path) -> None:
    for seed in range(2):
        make_video(tmp_path / "videos" / "a" / f"{seed}.mp4", num_frames=8, seed=seed)
    ingest(from_folder(tmp_path / "videos"), tmp_path / "copies", recipe=Recipe(codec="copy"))
    assert not read_manifest(tmp_path / "copies").has_packets.any()
