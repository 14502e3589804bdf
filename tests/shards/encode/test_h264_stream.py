"""The headers of stored H.264 are alike in all clips, so that decoders can be reused.

A hardware decoder is set up for a format, a picture size and a number of frames kept for reference.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import pytest

from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode
from tests.make_videos import make_video

_HIGH = 100
_SEQUENCE_PARAMETERS, _IDR_SLICE, _SLICE = 7, 5, 1
SIZES = [(64, 64), (96, 128), (250, 334), (144, 1000), (1080, 1920)]


class _Bits:
    """Reads a NAL unit's payload bit by bit (ITU-T H.264, 7.2 and 9.1)."""

    def __init__(self, payload: bytes) -> None:
        raw = payload.replace(b"\0\0\3", b"\0\0")  # emulation prevention
        self._bits = "".join(f"{byte:08b}" for byte in raw)
        self._at = 0

    def u(self, count: int) -> int:
        self._at += count
        return int(self._bits[self._at - count : self._at] or "0", 2)

    def ue(self) -> int:
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.u(zeros + 1) - 1

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(frozen=True)
class _Sps:
    profile: int
    constraints: int
    level: int
    chroma_format: int
    bits: int
    num_ref_frames: int
    progressive: bool
    width: int
    height: int
    cropped: bool
    max_reordered: int
    max_dec_frame_buffering: int


def _parse_sps(unit: bytes) -> _Sps:
    """A sequence parameter set (7.3.2.1.1 and E.1.1), of the high profiles without extras."""
    bits = _Bits(unit[1:])
    profile, constraints, level = bits.u(8), bits.u(8), bits.u(8)
    assert bits.ue() == 0  # its id
    chroma_format, depth, depth_chroma = 1, 8, 8
    if profile >= _HIGH:
        chroma_format, depth, depth_chroma = bits.ue(), 8 + bits.ue(), 8 + bits.ue()
        assert bits.u(2) == 0  # no lossless bypass, no scaling matrix
    assert depth == depth_chroma
    bits.ue()  # log2_max_frame_num
    order_type = bits.ue()
    assert order_type in (0, 2)
    if order_type == 0:
        bits.ue()
    num_ref_frames, _gaps = bits.ue(), bits.u(1)
    width, height = 16 * (bits.ue() + 1), 16 * (bits.ue() + 1)
    progressive = bool(bits.u(1))
    bits.u(1)  # direct_8x8_inference
    cropped = bool(bits.u(1))
    assert not cropped
    assert bits.u(1) == 1  # there is a VUI
    max_reordered, buffering = _parse_vui(bits)
    return _Sps(
        profile=profile,
        constraints=constraints,
        level=level,
        chroma_format=chroma_format,
        bits=depth,
        num_ref_frames=num_ref_frames,
        progressive=progressive,
        width=width,
        height=height,
        cropped=cropped,
        max_reordered=max_reordered,
        max_dec_frame_buffering=buffering,
    )


def _parse_vui(bits: _Bits) -> tuple[int, int]:
    """(max_num_reorder_frames, max_dec_frame_buffering)."""
    if bits.u(1) and bits.u(8) == 255:  # aspect ratio
        bits.u(32)
    if bits.u(1):  # overscan
        bits.u(1)
    if bits.u(1):  # video signal type
        bits.u(4)
        if bits.u(1):
            bits.u(24)
    if bits.u(1):  # chroma location
        bits.ue(), bits.ue()
    if bits.u(1):  # timing
        bits.u(65)
    assert bits.u(2) == 0  # no HRD parameters
    bits.u(1)
    assert bits.u(1) == 1  # there are bitstream restrictions
    bits.u(1)
    for _ in range(4):
        bits.ue()
    return bits.ue(), bits.ue()


def _units(data: bytes) -> Iterator[bytes]:
    """The file's NAL units: the parameter sets, then those of every packet."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        config = stream.codec_context.extradata
        assert config is not None
        assert config[4] & 3 == 3  # lengths of 4 bytes
        size = int.from_bytes(config[6:8], "big")
        yield config[8 : 8 + size]
        for packet in container.demux(stream):
            rest = bytes(packet)
            while rest:
                end = 4 + int.from_bytes(rest[:4], "big")
                yield rest[4:end]
                rest = rest[end:]


def _stored(tmp_path: Path, height: int, width: int, recipe: Recipe) -> bytes:
    path = make_video(
        tmp_path / f"{height}x{width}.mp4",
        num_frames=7,
        height=height,
        width=width,
        fps=25 if height % 100 else 50,
        options={"bf": "3", "preset": "ultrafast"},
    )
    return transcode(path, recipe).data


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(gop=4),
        Recipe(gop=4, short_side_px=2160, preset="ultrafast"),
        Recipe(gop=4, preset="medium", quality=1),
    ],
    ids=["default", "large", "fine"],
)
def test_all_clips_have_the_same_parameters(tmp_path: Path, recipe: Recipe) -> None:
    found = []
    for height, width in SIZES:
        units = list(_units(_stored(tmp_path, height, width, recipe)))
        (sps,) = {_parse_sps(unit) for unit in units if unit[0] & 31 == _SEQUENCE_PARAMETERS}
        assert sps.width % 16 == sps.height % 16 == 0
        found.append(sps)
    assert len({(sps.width, sps.height) for sps in found}) == len(SIZES)  # all that differs
    (alike,) = {replace(sps, width=0, height=0) for sps in found}
    assert alike == _Sps(
        profile=_HIGH,
        constraints=0,
        level=51,
        chroma_format=1,
        bits=8,
        num_ref_frames=1,
        progressive=True,
        width=0,
        height=0,
        cropped=False,
        max_reordered=0,
        max_dec_frame_buffering=1,
    )


def test_slices_are_of_kind_i_and_p_only(tmp_path: Path) -> None:
    kinds = []
    for unit in _units(_stored(tmp_path, 96, 128, Recipe(gop=4))):
        if unit[0] & 31 in (_IDR_SLICE, _SLICE):
            bits = _Bits(unit[1:40])
            assert bits.ue() == 0  # a picture is one slice
            kinds.append((unit[0] & 31, bits.ue() % 5))
    p, i = 0, 2
    assert kinds == [
        *[(_IDR_SLICE, i), (_SLICE, p), (_SLICE, p), (_SLICE, p)],
        *[(_IDR_SLICE, i), (_SLICE, p), (_SLICE, p)],
    ]
