"""The planes of a window's frames, decoded by compiled code where that is possible.

`loaders.decode` gives the same planes with PyAV. It decodes whatever does not go smoothly here:
another version of FFmpeg, another pixel format, a packet that does not decode. It then names the
fault, so faults are the same either way.
"""

import ctypes
import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from loaders.decode import Planes, decoded_planes
from loaders.engines.fused.libavcodec import OpenDecoder, UnusableError
from loaders.engines.fused.packet_loop import decode_turn
from loaders.yuv import FrameColor, color_of
from shards.format.packet_index import Window
from shards.packet_decoder import FRAMES_PER_TURN, OpenDecoders

_logger = logging.getLogger(__name__)
_of_thread = threading.local()
_FULL_RANGE_FORMAT = 12  # AV_PIX_FMT_YUVJ420P
# Codec -> whether its first window was the same both ways.
_agrees_with_pyav: dict[str, bool] = {}
_checking = threading.Lock()


def window_planes(
    window: Window, frame_indices: np.ndarray, num_frames: int
) -> Iterator[tuple[int, Planes]]:
    """Like `loaders.decode.decoded_planes`, for a window.

    Use the planes before the next ones are asked for, because their memory is used again.

    Args:
        window: A window that holds these frames.
        frame_indices: (N,) sorted, unique frame numbers, N >= 1.
        num_frames: How many frames the whole video decodes to.

    Raises:
        DecodeError: While iterating, as `decoded_planes`.
    """
    num_found = 0
    if _can_compile(window, frame_indices, num_frames):
        with suppress(UnusableError):
            for k, planes in _compiled_planes(_open_decoders(), window, frame_indices):
                num_found = k + len(planes.addresses)
                yield k, planes
    if num_found < len(frame_indices):
        yield from decoded_planes(window, frame_indices, num_frames, window.size)


def _compiled_planes(
    decoders: OpenDecoders[OpenDecoder], window: Window, frame_indices: np.ndarray
) -> Iterator[tuple[int, Planes]]:
    """Raises UnusableError if there is no decoder, or a packet does not decode as it should."""
    data, first = np.frombuffer(window.data, np.uint8), window.byte_range.gop_frames[0]
    offsets = np.array(window.byte_range.offsets)
    gop_frames = np.array(window.byte_range.gop_frames) - first
    wanted, tags = frame_indices - first, np.full(3, -1)
    next_packet, color = 0, None
    with decoders.lent(window) as decoder:
        for k in range(0, len(wanted), FRAMES_PER_TURN):
            turn = wanted[k : k + FRAMES_PER_TURN]
            places = np.empty((len(turn), 3, 2), np.int64)
            next_packet = decode_turn(
                decoder.calls,
                decoder.context,
                decoder.packet,
                decoder.frames,
                decoder.spare,
                data.ctypes.data,
                len(data),
                offsets,
                gop_frames,
                turn,
                next_packet,
                window.size,
                tags,
                places,
            )
            if next_packet < 0:
                raise UnusableError("a packet gives no picture of the right size in 8-bit 4:2:0")
            color = color or _color(tags)
            yield (
                k,
                Planes(
                    owner=decoder,
                    addresses=np.ascontiguousarray(places[..., 0]),
                    strides=np.ascontiguousarray(places[..., 1]),
                    luma_range=color.luma_range,
                    to_rgb=color.to_rgb,
                ),
            )


def _color(tags: np.ndarray) -> FrameColor:
    """The colours that a frame's pixel format, range and matrix stand for."""
    pixel_format, color_range, color_space = tags.tolist()
    return color_of(
        is_bt709=color_space == Colorspace.ITU709,
        is_full=pixel_format == _FULL_RANGE_FORMAT or color_range == ColorRange.JPEG,
    )


def _open_decoders() -> OpenDecoders[OpenDecoder]:
    """The decoders of this thread."""
    if not hasattr(_of_thread, "decoders"):
        _of_thread.decoders = _new_decoders()
    decoders: OpenDecoders[OpenDecoder] = _of_thread.decoders
    return decoders


def _new_decoders() -> OpenDecoders[OpenDecoder]:
    return OpenDecoders(lambda window: OpenDecoder(window, FRAMES_PER_TURN))


def _can_compile(window: Window, frame_indices: np.ndarray, num_frames: int) -> bool:
    """Whether compiled code gave the planes of PyAV for the first window of this codec.

    Raises:
        DecodeError: This is the first one, and PyAV cannot decode it.
    """
    codec = window.codec
    if codec not in _agrees_with_pyav:
        with _checking:  # other threads wait for the result
            if codec not in _agrees_with_pyav:
                reason = _difference(window, frame_indices, num_frames)
                if reason:
                    _logger.warning(
                        "engine fused decodes %s with PyAV, which holds up other threads: %s",
                        codec,
                        reason,
                    )
                _agrees_with_pyav[codec] = not reason
    return _agrees_with_pyav[codec]


def _difference(window: Window, frame_indices: np.ndarray, num_frames: int) -> str:
    """Why compiled code does not give the planes of PyAV; "" if it does."""
    theirs = _digest(decoded_planes(window, frame_indices, num_frames, window.size), window.size)
    try:
        ours = _digest(_compiled_planes(_new_decoders(), window, frame_indices), window.size)
    except UnusableError as error:
        return str(error)
    return "" if ours == theirs else "its library gives other pictures"


def _digest(turns: Iterator[tuple[int, Planes]], size: Sequence[int]) -> str:
    """Of the colours, and of the pixels of all planes."""
    height, width = size
    chroma = (height + 1) // 2, (width + 1) // 2
    hasher = hashlib.sha256()
    for _, planes in turns:
        hasher.update(planes.to_rgb.tobytes() + bytes(planes.luma_range))
        for addresses, strides in zip(planes.addresses, planes.strides, strict=True):
            for address, stride, (rows, row_bytes) in zip(
                addresses.tolist(), strides.tolist(), (size, chroma, chroma), strict=True
            ):
                for y in range(rows):
                    hasher.update(ctypes.string_at(address + y * stride, row_bytes))
    return hasher.hexdigest()
