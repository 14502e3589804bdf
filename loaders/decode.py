"""Decodes chosen frames of a video, and gives their Y, U and V planes, with PyAV.

No RGB picture is made, because the engine `fused` converts only the pixels of the views to RGB. A
frame's number is its place in presentation order. `fused` decodes windows in compiled code, and
comes here with whatever that code refuses.

A video with a packet index comes as a window. Its packets go straight to a decoder that stays open,
and only the GOPs with wanted frames are decoded. `tb shard` has proven that this is exact.

A video without one (recipe `copy`) comes as a whole file. There a seek goes to the keyframe before
the first wanted frame, and its result is used only if it is provably exact. For that the container
must list as many frames as ingestion decoded and wrote to the manifest, and every frame decoded
after the seek must have the timestamp that is listed for its number. Otherwise the file is decoded
from its start and the frames are counted, which is slow but never wrong.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shards.decode.packet_decoder import (
    DecodeError,
    checked,
    error_of,
    in_turns,
    open_decoders,
    turns_of_planes,
)
from shards.decode.planes import Planes
from shards.encode.video_stream import VideoFaultError, open_video
from shards.format.packets import Window

# Decoding fewer frames than this costs less than a seek.
_SEEK_FROM = 8
# Containers that store when a frame is shown. For others FFmpeg guesses it where frames are
# reordered (B-frames in AVI), and the guess may be off by one.
_STORES_PRESENTATION_TIMES = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}

Footage = bytes | Window | Iterator[VideoFrame]
"""The forms of a video: a whole file, a window of it, or its decoded frames from frame 0 on."""


@contextmanager
def _decode_errors() -> Iterator[None]:
    """Turns the errors of a file that does not open or decode into those of this module.

    Raises:
        DecodeError: A VideoFaultError, or an error of FFmpeg.
        MachineError: This machine lacks memory.
    """
    try:
        yield
    except VideoFaultError as error:
        raise DecodeError(f"cannot be decoded: {error}") from error
    except av.FFmpegError as error:
        raise error_of(error) from error


def decoded_turns(
    video: Footage, frame_indices: np.ndarray, num_frames: int, size: Sequence[int]
) -> Iterator[tuple[int, list[VideoFrame]]]:
    """Yields (k, up to 16 frames): frame i of them is frame_indices[k + i].

    They come in order, k = 0 first. If a seek was not exact, k starts again at 0: discard what came
    before. Keep no frame, see `in_turns`.

    Args:
        video: A window that holds these frames, a whole file, or frames that are decoded already.
            An iterator of frames is read only up to the last wanted one.
        frame_indices: (N,) sorted, unique frame numbers, N >= 1.
        num_frames: How many frames the whole video decodes to.
        size: (height, width) of its pictures, in pixels.

    Raises:
        DecodeError: While iterating: the bytes do not decode, or end before the last frame, or a
            picture has another size, or the pixel format changes.
    """
    wanted = frame_indices.tolist()
    with _decode_errors():
        if isinstance(video, Window):
            yield from in_turns(open_decoders().frames(video, wanted))
        elif isinstance(video, bytes):
            yield from _file_turns(video, wanted, num_frames, size)
        else:
            yield from in_turns(checked(_chosen(video, wanted), size))


def check_file(data: bytes, size: Sequence[int]) -> None:
    """Checks a whole file for a decoder (DALI's) that does not keep to our rules.

    Args:
        data: The file.
        size: (height, width) of its pictures, in pixels.

    Raises:
        DecodeError: It is not a video of a known format, or its header has another size, or the
            header does not say which one of several video streams counts.
    """
    with _decode_errors(), open_video(data) as (container, stream):
        height, width = stream.codec_context.height, stream.codec_context.width
        streams = container.streams.video
        defaults = [one for one in streams if one.disposition & Disposition.default]
        is_clear = len(streams) == 1 or defaults == [stream]
    if (height, width) != tuple(size):
        raise DecodeError(
            f"a header that says {height}x{width}, where the manifest has {size[0]}x{size[1]}"
            " (height x width)"
        )
    if not is_clear:
        # FFmpeg then chooses by what it has decoded of each stream, and DALI does not.
        raise DecodeError(
            "has several video streams, and its header does not mark one of them as the default:"
            " choose engine='fused', or another recipe than copy"
        )


def decoded_frames(
    video: Footage, frame_indices: np.ndarray, num_frames: int, size: Sequence[int]
) -> list[VideoFrame]:
    """The frames of `decoded_turns`, all in memory at once: simpler, but slower."""
    decoded: list[VideoFrame] = []
    for k, frames in decoded_turns(video, frame_indices, num_frames, size):
        decoded[k:] = frames
    return decoded


def decoded_planes(
    video: Footage, frame_indices: np.ndarray, num_frames: int, size: Sequence[int]
) -> Iterator[tuple[int, Planes]]:
    """Yields the planes of `decoded_turns`; all have the colours of the first frame."""
    yield from turns_of_planes(decoded_turns(video, frame_indices, num_frames, size))


class FrameCount(NamedTuple):
    """How many frames a file has, their (height, width), and the header's frames per second.

    The rate is None where the header has none.
    """

    num_frames: int
    size: tuple[int, int]
    fps: float | None


def count_frames(data: bytes, *, by_decoding: bool = False) -> FrameCount:
    """Counts the frames of a file.

    Args:
        data: The file.
        by_decoding: Whether to decode all of them. Otherwise packets are counted, which is quick,
            but some files have packets without a frame.

    Raises:
        DecodeError: It is not a video, or has no frames.
    """
    with _decode_errors(), open_video(data) as (container, stream):
        size = (stream.codec_context.height, stream.codec_context.width)
        fps = float(stream.average_rate) if stream.average_rate else None
        if by_decoding:
            number = sum(1 for _ in container.decode(stream))
        else:
            packets = container.demux(stream)
            number = sum(1 for packet in packets if packet.size and not packet.is_discard)
    if not number:
        raise DecodeError("has no frames")
    return FrameCount(number, size, fps)


def _file_turns(
    data: bytes, wanted: list[int], num_frames: int, size: Sequence[int]
) -> Iterator[tuple[int, list[VideoFrame]]]:
    if wanted[0] >= _SEEK_FROM:
        num_found = 0
        frames = checked(_decode_after_seek(data, wanted, num_frames), size)
        for k, turn in in_turns(frames):
            num_found = k + len(turn)
            yield k, turn
        if num_found == len(wanted):
            return
    yield from in_turns(checked(_decode_from_start(data, wanted), size))


def _decode_from_start(data: bytes, wanted: Sequence[int]) -> Iterator[VideoFrame]:
    with open_video(data) as (container, stream):
        yield from _chosen(container.decode(stream), wanted)


def _chosen(frames: Iterator[VideoFrame], wanted: Sequence[int]) -> Iterator[VideoFrame]:
    num_found = 0
    for number, frame in enumerate(frames):
        if number == wanted[num_found]:
            yield frame
            num_found += 1
            if num_found == len(wanted):
                return
    raise DecodeError(f"ends before frame {wanted[num_found]}")


def _decode_after_seek(data: bytes, wanted: Sequence[int], num_frames: int) -> Iterator[VideoFrame]:
    """The wanted frames; ends early if a seek is impossible or not provably exact."""
    with open_video(data) as (container, stream):
        times = _presentation_times(container, stream, num_frames)
        if len(times) != num_frames or wanted[-1] >= num_frames:
            return
        container.seek(times[wanted[0]], stream=stream)
        num_found, number = 0, -1
        for frame in container.decode(stream):
            if frame.pts is None:
                return
            number = bisect_left(times, frame.pts) if number < 0 else number + 1
            lost = number >= num_frames or times[number] != frame.pts
            if lost or (not num_found and number > wanted[0]):
                return
            if number == wanted[num_found]:
                yield frame
                num_found += 1
                if num_found == len(wanted):
                    return


def _presentation_times(
    container: InputContainer, stream: VideoStream, num_frames: int
) -> list[int]:
    """The time of each frame, ascending, in the stream's time base; empty if unknown."""
    times: list[int] = []
    if not stream.codec_context.has_b_frames:
        times = [e.timestamp for e in stream.index_entries if e.size and not e.is_discard]
    if len(times) != num_frames and container.format.name in _STORES_PRESENTATION_TIMES:
        packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
    return times if all(a < b for a, b in pairwise(times)) else []
