"""The planes of a window's frames, decoded by compiled code where that is possible.

PyAV decodes whatever does not go smoothly here: another version of FFmpeg, another pixel format, a
packet that does not decode. It then names the fault, so faults are the same either way.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import zip_longest

import numpy as np

from shards.decode.libavcodec import (
    OpenDecoder,
    RefusedPacketError,
    UnusableError,
    unusable_library,
)
from shards.decode.packet_decoder import (
    FRAMES_PER_TURN,
    DecodeError,
    OpenDecoders,
    pyav_planes,
    pyav_proof_planes,
)
from shards.decode.packet_loop import YUVJ420P, decode_turn
from shards.decode.planes import Colors, Planes, are_same_planes, tagged_colors
from shards.format.packets import Window

_logger = logging.getLogger(__name__)
_of_thread = threading.local()
# Codec -> whether its first window was the same both ways.
_agrees_with_pyav: dict[str, bool] = {}
_checking = threading.Lock()


def window_planes(window: Window, frame_indices: np.ndarray) -> Iterator[tuple[int, Planes]]:
    """Yields (k, planes of up to 16 frames): frame i of them is frame_indices[k + i].

    They come in order, k = 0 first. If a packet does not decode here, k starts again at 0: discard
    what came before. Use the planes before the next ones are asked for, because their memory is
    used again.

    Args:
        window: A window that holds these frames.
        frame_indices: (N,) sorted, unique frame numbers, N >= 1.

    Raises:
        DecodeError: While iterating: a packet does not give its picture, or a picture has
            another size, or the pixel format changes.
        MachineError: This machine lacks memory.
    """
    num_found = 0
    if _can_compile(window, frame_indices):
        with suppress(UnusableError):
            for k, planes in _compiled_planes(_open_decoders(), window, frame_indices):
                num_found = k + len(planes.addresses)
                yield k, planes
    if num_found < len(frame_indices):
        yield from pyav_planes(window, frame_indices)


def proof_planes(
    window: Window, frame_indices: np.ndarray, *, frames_per_turn: int
) -> Iterator[tuple[int, Planes]]:
    """Like `window_planes`, for the proof that a window gives the pictures of the whole file.

    PyAV takes nothing over here. It decodes only where this machine's library cannot be used, and
    there it also decodes all windows of a training. No decoder stays open, because videos that are
    stored may have any size.

    Args:
        window: See `window_planes`.
        frame_indices: See `window_planes`.
        frames_per_turn: How many frames come at a time, and are in memory.

    Raises:
        DecodeError: As `window_planes`, and where compiled code refuses a packet.
        MachineError: This machine lacks memory.
    """
    with_pyav = partial(pyav_proof_planes, window, frame_indices, frames_per_turn=frames_per_turn)
    if unusable_library():
        yield from with_pyav()
        return
    try:
        yield from _compiled_planes(_new_decoders(frames_per_turn), window, frame_indices)
    except UnusableError as error:
        for _ in with_pyav():  # raises the error where memory is lacking, no fault of a video
            pass
        raise DecodeError(str(error)) from error


def _compiled_planes(
    decoders: OpenDecoders[OpenDecoder], window: Window, frame_indices: np.ndarray
) -> Iterator[tuple[int, Planes]]:
    """Raises UnusableError if there is no decoder, or a packet does not decode as it should."""
    data, first = np.frombuffer(window.data, np.uint8), window.byte_range.gop_frames[0]
    offsets = np.array(window.byte_range.offsets)
    gop_frames = np.array(window.byte_range.gop_frames) - first
    wanted, tags = frame_indices - first, np.full(3, -1)
    next_packet, colors = 0, None
    with decoders.lent(window) as decoder:
        for k in range(0, len(wanted), len(decoder.frames)):
            turn = wanted[k : k + len(decoder.frames)]
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
                raise RefusedPacketError(
                    "a packet gives no picture of the right size in 8-bit 4:2:0"
                )
            colors = colors or _colors(tags)
            yield (
                k,
                Planes(
                    owner=decoder,
                    addresses=np.ascontiguousarray(places[..., 0]),
                    strides=np.ascontiguousarray(places[..., 1]),
                    colors=colors,
                ),
            )


def _colors(tags: np.ndarray) -> Colors:
    """The colours that a frame's pixel format, range and matrix stand for."""
    pixel_format, color_range, color_space = tags.tolist()
    return tagged_colors(color_space, color_range, is_full_format=pixel_format == YUVJ420P)


def _open_decoders() -> OpenDecoders[OpenDecoder]:
    """The decoders of this thread."""
    if not hasattr(_of_thread, "decoders"):
        _of_thread.decoders = _new_decoders()
    decoders: OpenDecoders[OpenDecoder] = _of_thread.decoders
    return decoders


def _new_decoders(frames_per_turn: int = FRAMES_PER_TURN) -> OpenDecoders[OpenDecoder]:
    return OpenDecoders(lambda window: OpenDecoder(window, frames_per_turn))


def _can_compile(window: Window, frame_indices: np.ndarray) -> bool:
    """Whether compiled code gave the planes of PyAV for the first window of this codec.

    Raises:
        DecodeError: This is the first one, and PyAV cannot decode it.
    """
    codec = window.codec
    if codec not in _agrees_with_pyav:
        with _checking:  # other threads wait for the result
            if codec not in _agrees_with_pyav:
                try:
                    reason = _difference(window, frame_indices)
                except RefusedPacketError:  # a fault of this window, which says nothing of others
                    return False
                if reason:
                    _logger.warning(
                        "PyAV decodes the windows of %s, which holds up other threads: %s",
                        codec,
                        reason,
                    )
                _agrees_with_pyav[codec] = not reason
    return _agrees_with_pyav[codec]


def _difference(window: Window, frame_indices: np.ndarray) -> str:
    """Why compiled code does not give the planes of PyAV; "" if it does.

    Raises:
        DecodeError: PyAV cannot decode the window.
        RefusedPacketError: Only PyAV can decode it.
    """
    theirs = pyav_planes(window, frame_indices)
    ours = _compiled_planes(_new_decoders(), window, frame_indices)
    try:
        is_same = all(
            one is not None and other is not None and are_same_planes(one[1], other[1], window.size)
            for one, other in zip_longest(theirs, ours)
        )
    except UnusableError as error:
        for _ in theirs:  # raises PyAV's fault if there is one
            pass
        if isinstance(error, RefusedPacketError):
            raise
        return str(error)
    return "" if is_same else "its library gives other pictures"
