"""The planes of a window's frames, decoded by compiled code where that is possible.

`loaders.decode` gives the same planes with PyAV, and is used for whatever does not go smoothly
here: another version of FFmpeg, another pixel format, a packet that does not decode. It then names
the fault, so faults are the same either way.
"""

import ctypes
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from loaders.decode import DecodeError, Planes, decoded_planes
from loaders.engines.fused.libavcodec import OpenDecoder, UnusableError
from loaders.engines.fused.packet_loop import decode_turn
from loaders.yuv import color_of
from shards.format.packet_index import ByteRange, Window
from shards.packet_decoder import FRAMES_PER_TURN, OpenDecoders

_logger = logging.getLogger(__name__)
_of_thread = threading.local()
_lock = threading.Lock()
_FULL_RANGE_FORMAT = 12  # AV_PIX_FMT_YUVJ420P


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
    num_found, decoders = 0, _decoders_of_this_thread()
    if decoders is not None:
        with suppress(UnusableError):
            for k, planes in _compiled_planes(decoders, window, frame_indices):
                num_found = k + len(planes.addresses)
                yield k, planes
    if num_found < len(frame_indices):
        yield from decoded_planes(window, frame_indices, num_frames, window.size)


def _compiled_planes(
    decoders: OpenDecoders[OpenDecoder], window: Window, frame_indices: np.ndarray
) -> Iterator[tuple[int, Planes]]:
    """Raises UnusableError if there is no decoder, or a packet does not decode."""
    data, first = np.frombuffer(window.data, np.uint8), window.byte_range.gop_frames[0]
    offsets = np.array(window.byte_range.offsets)
    gop_frames = np.array(window.byte_range.gop_frames) - first
    wanted, tags = frame_indices - first, np.full(3, -1)
    packet, color = 0, None
    # Compiled code checks no index.
    if wanted[0] < 0 or wanted[-1] >= len(offsets) - 1 or offsets[-1] > len(data):
        raise UnusableError("the window does not hold these frames")
    with decoders.lent(window) as decoder:
        for k in range(0, len(wanted), FRAMES_PER_TURN):
            turn = wanted[k : k + FRAMES_PER_TURN]
            places = np.empty((len(turn), 3, 2), np.int64)
            packet = decode_turn(
                decoder.calls,
                decoder.context,
                decoder.packet,
                decoder.frames,
                decoder.spare,
                data.ctypes.data,
                offsets,
                gop_frames,
                turn,
                packet,
                window.size,
                tags,
                places,
            )
            if packet < 0:
                raise UnusableError("a packet does not decode as it should")
            color = color or color_of(
                is_bt709=bool(tags[2] == Colorspace.ITU709),
                is_full=bool(tags[0] == _FULL_RANGE_FORMAT or tags[1] == ColorRange.JPEG),
            )
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


def _decoders_of_this_thread() -> OpenDecoders[OpenDecoder] | None:
    """None if libavcodec cannot be used here."""
    if not hasattr(_of_thread, "decoders"):
        with _lock:  # one thread tries, and the others wait for what it found
            _of_thread.decoders = _no_decoders() if _agrees_with_pyav() else None
    decoders: OpenDecoders[OpenDecoder] | None = _of_thread.decoders
    return decoders


def _no_decoders() -> OpenDecoders[OpenDecoder]:
    return OpenDecoders(lambda window: OpenDecoder(window, FRAMES_PER_TURN))


@cache
def _agrees_with_pyav() -> bool:
    """Whether a picture has the same planes both ways; if not, a warning says so."""
    try:
        window, wanted = _picture(), np.zeros(1, np.int64)
        ours = [_values(planes) for _, planes in _compiled_planes(_no_decoders(), window, wanted)]
        theirs = [_values(planes) for _, planes in decoded_planes(window, wanted, 1, window.size)]
        reason = "" if ours == theirs else "libavcodec gave another picture"
    except (UnusableError, DecodeError, ValueError, av.FFmpegError) as error:
        reason = str(error)
    if reason:
        _logger.warning("engine fused decodes with PyAV, which holds up other threads: %s", reason)
    return not reason


def _picture() -> Window:
    """A window of one JPEG picture."""
    height, width = size = (48, 64)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    values = np.arange(height * width * 3 // 2, dtype=np.uint32) // 7 % 256
    planes = values.astype(np.uint8).reshape(-1, width)
    frame = VideoFrame.from_ndarray(planes, format="yuvj420p")
    data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    byte_range = ByteRange(
        begin=0,
        offsets=(0, len(data)),
        first_gop=0,
        gop_frames=(0,),
        checksums=(0,),
        extradata=b"",
    )
    return Window(codec="mjpeg", size=size, byte_range=byte_range, data=data)


def _values(planes: Planes) -> list[bytes]:
    """The luma of the first frame, with what lies between its rows, and its colours."""
    luma = ctypes.string_at(int(planes.addresses[0, 0]), int(planes.strides[0, 0]) * 48)
    return [luma, planes.to_rgb.tobytes(), bytes(planes.luma_range)]
