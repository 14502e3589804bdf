"""Decodes a turn of frames in one call of compiled code (Numba), without the interpreter.

PyAV releases the interpreter seven times for each frame, and asks for it again. Here a thread does
so once for up to 16 frames. The places of fields are those of AVPacket and AVFrame in the versions
that `libavcodec` names.
"""

import errno
from typing import Any, NamedTuple

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic as untyped_intrinsic

# AVPixelFormat
_YUV420P, YUVJ420P = 0, 12
# Bytes from the start of AVPacket.
_PACKET_DATA, _PACKET_SIZE = 24, 32
# Bytes from the start of AVFrame.
_PLANES, _STRIDES, _WIDTH, _HEIGHT, _FORMAT = 0, 64, 104, 108, 116
_FLAGS, _COLOR_RANGE, _COLOR_SPACE, _ERROR_FLAGS = 276, 280, 292, 320
_IS_CORRUPT, _IS_KEY = 1, 2  # AV_FRAME_FLAG_CORRUPT, AV_FRAME_FLAG_KEY
_NEEDS_A_PACKET = -errno.EAGAIN

_MAX_PACKET_BYTES = 2**31 - 64  # AVPacket has an int32, and padding follows

# With Numba's own types a caller would have to pass the compiler's context too.
_intrinsic: Any = untyped_intrinsic
_jit = numba.njit(nogil=True, cache=True, error_model="numpy")
# These functions are inlined, because a call would count a reference for each array.
_inlined = numba.njit(nogil=True, error_model="numpy", inline="always")


class Calls(NamedTuple):
    """The addresses of the functions that compiled code calls."""

    send_packet: int
    receive_frame: int
    flush_buffers: int


@_intrinsic  # type: ignore[untyped-decorator]
def _call(_context: Any, _function: Any, _one: Any, _other: Any) -> Any:
    """The int32 that the C function at an address gives for two pointers."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        function = ir.FunctionType(ir.IntType(32), [args[1].type, args[2].type])
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])

    return types.int32(types.int64, types.int64, types.int64), generate


def _pointer_to(element: Any) -> Any:
    """An intrinsic: address -> a pointer to values of this type, which can be indexed."""

    @_intrinsic  # type: ignore[untyped-decorator]
    def pointer(_context: Any, _address: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], ir.IntType(element.bitwidth).as_pointer())

        pointer_type: Any = types.CPointer  # untyped
        return pointer_type(element)(types.int64), generate

    return pointer


_int32, _int64 = _pointer_to(types.int32), _pointer_to(types.int64)


@_jit  # type: ignore[untyped-decorator]
def decode_turn(  # type: ignore[no-untyped-def]
    calls,
    context,
    packet,
    frames,
    spare,
    data,
    num_bytes,
    offsets,
    gop_frames,
    wanted,
    next_packet,
    size,
    tags,
    out,
):
    """Decodes the wanted frames.

    In a GOP with a wanted frame all packets up to the last wanted one are decoded; no others are.
    No index is trusted: it is a failure if one leads out of the data.

    Args:
        calls: The `Calls` of the library.
        context: The address of the decoder.
        packet: The address of an AVPacket.
        frames: (N,) int64, the addresses of the AVFrames that keep what is wanted, N >= K.
        spare: The address of an AVFrame for all other frames.
        data: The address of the first packet.
        num_bytes: How many bytes there are.
        offsets: (F + 1,) int64, bytes from `data` to each packet, and to their end.
        gop_frames: (G,) int64, the number of the first packet of each GOP, ascending.
        wanted: (K,) int64, ascending: the numbers of the packets whose frames are wanted.
        next_packet: The number of the packet after the one that was decoded last, or 0.
        size: The (height, width) of each picture.
        tags: (3,) int64: pixel format, colour range and colour space. If the first value is
            negative, those of the first frame are written. A later frame must have the same pixel
            format.
        out: (K, 3, 2) int64, written: the address of each plane and the bytes between its rows.

    Returns:
        The number of the packet after the one that was decoded last; -1 if a packet did not give
        one picture without errors, of the right size and in 8-bit 4:2:0.
    """
    gop, i = 0, next_packet
    for n in range(len(wanted)):
        if wanted[n] < i or wanted[n] >= len(offsets) - 1:
            return -1
        while gop + 1 < len(gop_frames) and gop_frames[gop + 1] <= wanted[n]:
            gop += 1
        if i <= gop_frames[gop]:
            i = gop_frames[gop]
            # It takes one pointer and returns nothing. Neither difference does harm.
            _call(calls.flush_buffers, context, 0)
        while i <= wanted[n]:
            if not _is_inside(offsets[i], offsets[i + 1], num_bytes):
                return -1
            _int64(packet + _PACKET_DATA)[0] = data + offsets[i]
            _int32(packet + _PACKET_SIZE)[0] = offsets[i + 1] - offsets[i]
            frame = frames[n] if i == wanted[n] else spare
            # The packet owns no data, so the library makes a copy with zeros behind it.
            failed = _call(calls.send_packet, context, packet) != 0
            failed = failed or _call(calls.receive_frame, context, frame) != 0
            failed = failed or not _is_whole(frame, i == gop_frames[gop])
            failed = failed or (frame != spare and not _is_usable(frame, size, tags))
            failed = failed or _call(calls.receive_frame, context, spare) != _NEEDS_A_PACKET
            if failed:
                return -1
            i += 1
        for p in range(3):
            out[n, p, 0] = _int64(frames[n] + _PLANES)[p]
            out[n, p, 1] = _int32(frames[n] + _STRIDES)[p]
    return i


@_inlined  # type: ignore[untyped-decorator]
def _is_inside(begin, end, num_bytes):  # type: ignore[no-untyped-def]
    is_inside = begin >= 0 and end <= num_bytes
    return is_inside and 0 < end - begin <= _MAX_PACKET_BYTES


@_inlined  # type: ignore[untyped-decorator]
def _is_whole(frame, is_first):  # type: ignore[no-untyped-def]
    flags = _int32(frame + _FLAGS)[0]
    # The first frame of a GOP is a keyframe. If it has no such flag, the flags lie elsewhere.
    is_expected = not is_first or flags & _IS_KEY != 0
    return is_expected and flags & _IS_CORRUPT == 0 and _int32(frame + _ERROR_FLAGS)[0] == 0


@_inlined  # type: ignore[untyped-decorator]
def _is_usable(frame, size, tags):  # type: ignore[no-untyped-def]
    pixel_format = _int32(frame + _FORMAT)[0]
    if tags[0] < 0:
        tags[0] = pixel_format
        tags[1] = _int32(frame + _COLOR_RANGE)[0]
        tags[2] = _int32(frame + _COLOR_SPACE)[0]
    is_planar_420 = pixel_format in (_YUV420P, YUVJ420P)
    has_size = _int32(frame + _HEIGHT)[0] == size[0] and _int32(frame + _WIDTH)[0] == size[1]
    return is_planar_420 and pixel_format == tags[0] and has_size
