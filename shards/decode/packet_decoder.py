"""Decodes packets to frames with decoders that stay open, without a container or a seek.

A window begins at a keyframe and has no reordering, so every packet gives one frame at once.
Opening a decoder takes as long as decoding several frames, so one is kept for each configuration.
It is flushed before each GOP.
"""

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from shards.decode.planes import Planes, frame_colors, frame_planes
from shards.files.machine_errors import MachineError
from shards.format.packets import Window

# Configurations differ by picture size, and most sets have a few.
_MAX_OPEN = 8
# The frames of a turn stay in the processor's cache, and their memory is used again. Turns of one
# frame would be slower, because each turn has a fixed cost.
FRAMES_PER_TURN = 16
# FFmpeg counts the pixels of whole blocks. The size of a block depends on the decoder; none is
# larger than 64. Small pictures get a larger limit, because FFmpeg also counts an edge around them.
_BLOCK_PX = 64
_LEAST_MAX_PIXELS = 1 << 20

UNUSABLE_NUMBA = (ImportError, AttributeError, RuntimeError)
"""What an import of compiled code raises if Numba cannot be used here.

Another version may lack internals that we use. Without a folder for its cache, Numba raises a
RuntimeError.
"""

_of_thread = threading.local()


class DecodeError(Exception):
    """A video's bytes do not yield the frames that its manifest row promises.

    The message says why, without the name of the video.
    """


_Decoder = TypeVar("_Decoder")


@dataclass
class OpenDecoders(Generic[_Decoder]):
    """The open decoders of one thread. It keeps the eight that were used last.

    Attributes:
        opened: Opens a decoder for a window.
    """

    opened: Callable[[Window], _Decoder]
    _open: OrderedDict[tuple[str, bytes, tuple[int, int]], _Decoder] = field(
        default_factory=OrderedDict, init=False
    )

    @contextmanager
    def lent(self, window: Window) -> Iterator[_Decoder]:
        """Lends a decoder for a window; what `opened` raises is raised.

        It is not kept if an exception ends the loan, or if a window was not decoded to its end. So
        a fault in one video never shows in the next.
        """
        configuration = (window.codec, window.byte_range.extradata, window.size)
        decoder = self._open.pop(configuration, None) or self.opened(window)
        yield decoder
        self._open[configuration] = decoder
        while len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)


def max_pixels(size: Sequence[int]) -> int:
    """How many pixels, as FFmpeg counts them, a decoder for this (height, width) may accept."""
    # A stream from a stranger may have larger pictures than the manifest says.
    height, width = (-(-side // _BLOCK_PX) * _BLOCK_PX for side in size)
    return max(height * width, _LEAST_MAX_PIXELS)


def _opened(window: Window) -> VideoCodecContext:
    try:
        decoder = av.CodecContext.create(window.codec, "r")
    except ValueError as error:
        raise DecodeError(f"there is no decoder for {window.codec!r} here") from error
    if not isinstance(decoder, VideoCodecContext):
        raise DecodeError(f"{window.codec!r} is not a video codec")
    decoder.options = {"max_pixels": str(max_pixels(window.size))}
    decoder.extradata = window.byte_range.extradata or None
    # It has one thread, because many videos are decoded at a time. Frame threads add a delay.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    return decoder


@dataclass(kw_only=True)
class PacketDecoders:
    """The open decoders of PyAV of one thread."""

    _decoders: OpenDecoders[VideoCodecContext] = field(
        default_factory=partial(OpenDecoders, _opened), init=False
    )

    def frames(self, window: Window, wanted: Sequence[int]) -> Iterator[VideoFrame]:
        """Yields the wanted frames of a window. GOPs without a wanted frame are not decoded.

        Args:
            window: What to decode.
            wanted: Frame numbers of the video, ascending, all of them in the window.

        Raises:
            DecodeError: A packet does not give its frame, or `checked` refuses a frame.
            MachineError: This machine lacks memory.
        """
        try:
            with self._decoders.lent(window) as decoder:
                yield from checked(_decoded(decoder, window, wanted), window.size)
        except av.FFmpegError as error:
            raise error_of(error) from error


def open_decoders() -> PacketDecoders:
    """The decoders of this thread."""
    if not hasattr(_of_thread, "decoders"):
        _of_thread.decoders = PacketDecoders()
    decoders: PacketDecoders = _of_thread.decoders
    return decoders


def pyav_planes(window: Window, frame_indices: np.ndarray) -> Iterator[tuple[int, Planes]]:
    """Like `shards.decode.window_planes.window_planes`, with PyAV's decoders."""
    yield from turns_of_planes(in_turns(open_decoders().frames(window, frame_indices.tolist())))


def pyav_proof_planes(
    window: Window, frame_indices: np.ndarray, *, frames_per_turn: int
) -> Iterator[tuple[int, Planes]]:
    """Like `shards.decode.window_planes.proof_planes`, with PyAV's decoders."""
    frames = PacketDecoders().frames(window, frame_indices.tolist())
    yield from turns_of_planes(in_turns(frames, frames_per_turn))


def turns_of_planes(
    turns: Iterator[tuple[int, list[VideoFrame]]],
) -> Iterator[tuple[int, Planes]]:
    """Yields the planes of each turn of frames; all have the colours of the first frame."""
    colors = None
    for k, frames in turns:
        colors = colors or frame_colors(frames[0])
        yield k, frame_planes(frames, colors)


def error_of(error: av.FFmpegError) -> DecodeError | MachineError:
    """The error of the video, or of this machine if memory is lacking."""
    return out_of_memory(error) or DecodeError(f"cannot be decoded: {error.strerror or error}")


def out_of_memory(error: av.FFmpegError) -> MachineError | None:
    """The error for a decoder that got no memory, which is no video's fault; else None."""
    # The size of pictures is limited, so a video cannot ask for any amount.
    if not isinstance(error, MemoryError):
        return None
    return MachineError("this machine lacks memory to decode: free some, or use fewer workers")


def checked(frames: Iterator[VideoFrame], size: Sequence[int]) -> Iterator[VideoFrame]:
    """Yields the frames after a check of their size and pixel format.

    Raises:
        DecodeError: While iterating: a frame's (height, width) is not `size`, or the pixel
            format changes.
    """
    height, width = size
    pixel_format = ""
    for frame in frames:
        # A crop that was planned for a larger picture would read beyond this one.
        if (frame.height, frame.width) != (height, width):
            raise DecodeError(
                f"a picture of {frame.height}x{frame.width}, where the manifest has"
                f" {height}x{width} (height x width)"
            )
        pixel_format = pixel_format or frame.format.name
        if frame.format.name != pixel_format:
            raise DecodeError("the pixel format changes between frames")
        yield frame


def in_turns(
    frames: Iterator[VideoFrame], frames_per_turn: int = FRAMES_PER_TURN
) -> Iterator[tuple[int, list[VideoFrame]]]:
    """Yields (k, up to `frames_per_turn` frames), of which the first is frame k of the iterator.

    The decoder uses the memory of frames again when nobody refers to them, which is much cheaper
    than fresh memory. So each list is emptied when the next one is asked for: keep no frame of it.
    """
    k = 0
    while turn := list(islice(frames, frames_per_turn)):
        num_frames = len(turn)
        yield k, turn
        turn.clear()
        k += num_frames


def _decoded(
    decoder: VideoCodecContext, window: Window, wanted: Sequence[int]
) -> Iterator[VideoFrame]:
    starts, offsets, data = window.byte_range.gop_frames, window.byte_range.offsets, window.data
    base, ends = starts[0], [*starts[1:], starts[0] + len(offsets) - 1]
    for first, end in zip(starts, ends, strict=True):
        numbers = set(wanted[bisect_left(wanted, first) : bisect_left(wanted, end)])
        if not numbers:
            continue
        decoder.flush_buffers()
        for number in range(first, max(numbers) + 1):
            index = number - base
            frames = decoder.decode(padded_packet(data[offsets[index] : offsets[index + 1]]))
            if len(frames) != 1 or frames[0].is_corrupt:
                raise DecodeError(f"frame {number} does not decode")
            if number in numbers:
                yield frames.pop()


def padded_packet(data: bytes) -> "Packet[Stream]":
    """A packet with a copy of `data`, and zeros behind it.

    FFmpeg's decoders may read some bytes past the end of a packet. `av.Packet(data)` lends them
    `data` itself, so they would read other memory there, or memory that does not exist.
    """
    packet = Packet(len(data))
    packet.update(data)
    return packet
