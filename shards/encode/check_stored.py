"""Checks a stored video: all of it decodes, and so does each of its GOPs by itself.

First it finds the packets. Then it decodes every GOP alone, with the code that decodes the windows
of a training. Each picture must be the same as in a decode of the whole file. So any window can be
decoded by itself.
"""

import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shards.decode.packet_decoder import (
    FRAMES_PER_TURN,
    UNUSABLE_NUMBA,
    DecodeError,
    pyav_proof_planes,
)
from shards.decode.planes import Planes, are_same_pictures
from shards.encode.picture_format import PictureFormat, picture_format
from shards.encode.video_stream import VideoFaultError, open_video
from shards.format.packets import Packets, Window

_logger = logging.getLogger(__name__)
# A turn of larger pictures has fewer frames, because a worker's memory is limited.
_TURN_PIXELS = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What decoding all of a stored video has shown.

    Attributes:
        pictures: What its pixels mean.
        packets: Where its frames lie; None if a packet index cannot say so, or is not wanted.
        is_proven: Whether every GOP, decoded by itself, gives the same pictures.
    """

    pictures: PictureFormat
    packets: Packets | None
    is_proven: bool


def check_stored(
    data: bytes,
    num_frames: int,
    size: tuple[int, int],
    codec: str,
    *,
    is_indexed: bool = True,
) -> Checked:
    """Decodes a stored video in full, and each of its GOPs by itself if it is indexed.

    Args:
        data: The file.
        num_frames: How many frames it must have.
        size: (height, width) of its pictures, in pixels.
        codec: FFmpeg's name.
        is_indexed: Whether it may get a packet index.

    Raises:
        VideoFaultError: It is not a video, or it does not have `num_frames` good frames of `size`.
        av.FFmpegError: It does not decode.
    """
    packets = None
    with open_video(data) as (container, stream):
        if is_indexed:
            packets = packets_in(container, stream, data)
            # Only our own MP4 files are indexed. Their table of packets leads back to the first.
            container.seek(0)
        whole = _stored_frames(container, stream, num_frames, size)
        first = next(whole)
        pictures = picture_format(stream, first)
        is_proven = packets is not None and has_same_pictures(
            chain([first], whole), planes_alone(packets, data, codec, size), size
        )
        for _ in whole:
            pass
    return Checked(pictures=pictures, packets=packets, is_proven=is_proven)


def _stored_frames(
    container: InputContainer, stream: VideoStream, num_frames: int, size: tuple[int, int]
) -> Iterator[VideoFrame]:
    num_decoded = 0
    for packet in container.demux(stream):
        for frame in packet.decode():
            if frame.is_corrupt or (frame.height, frame.width) != size:
                raise VideoFaultError(f"stored frame {num_decoded} is damaged")
            num_decoded += 1
            yield frame
    if num_decoded != num_frames:
        raise VideoFaultError(f"stored {num_frames} frames, of which {num_decoded} decode")


def find_packets(data: bytes) -> Packets | None:
    """Where the frames of a stored video lie, see `packets_in`.

    Raises:
        VideoFaultError: It is not a video.
    """
    with open_video(data) as (container, stream):
        return packets_in(container, stream, data)


def packets_in(container: InputContainer, stream: VideoStream, data: bytes) -> Packets | None:
    """Where the frames of a stored video lie; it reads all packets.

    Args:
        container: From `open_video`, before any packet is read.
        stream: From `open_video`.
        data: The file.

    Returns:
        None if frames are reordered, do not lie side by side, or do not begin with a keyframe. Such
        a video has no packet index.
    """
    packets = [packet for packet in container.demux(stream) if packet.size]
    places = [(packet.pos, packet.size) for packet in packets]
    times = [packet.pts for packet in packets]
    keyframes = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    if not places or keyframes[:1] != [0] or any(pos is None for pos, _ in places):
        return None
    if any(one is None or two is None or one >= two for one, two in pairwise(times)):
        return None
    positions = np.array([pos for pos, _ in places])
    sizes = np.array([size for _, size in places])
    if (positions[:-1] + sizes[:-1] != positions[1:]).any():
        return None
    ends = [*positions[keyframes[1:]].tolist(), int(positions[-1] + sizes[-1])]
    view = memoryview(data)
    gops = zip(positions[keyframes].tolist(), ends, strict=True)
    return Packets(
        first_byte=int(positions[0]),
        sizes=sizes,
        gop_frames=np.array(keyframes),
        checksums=np.array([zlib.crc32(view[begin:end]) for begin, end in gops]),
        extradata=bytes(stream.codec_context.extradata or b""),
    )


def planes_alone(
    packets: Packets, data: bytes, codec: str, size: tuple[int, int]
) -> Iterator[tuple[int, Planes]]:
    """Yields the planes of all frames of a video in turns, each GOP decoded by itself.

    Args:
        packets: Where the frames of the video lie.
        data: The video.
        codec: FFmpeg's name.
        size: (height, width) in pixels.

    Raises:
        DecodeError: A GOP does not decode by itself.
    """
    # A decoder is flushed before each GOP of a window, so each is decoded by itself.
    num_frames = len(packets.sizes)
    run = packets.byte_range(0, num_frames - 1)
    end = run.begin + run.offsets[-1]
    window = Window(codec=codec, size=size, byte_range=run, data=data[run.begin : end])
    frames_per_turn = min(FRAMES_PER_TURN, max(1, _TURN_PIXELS // (size[0] * size[1])))
    yield from _proof_decoder()(window, np.arange(num_frames), frames_per_turn=frames_per_turn)


@cache
def _proof_decoder() -> Callable[..., Iterator[tuple[int, Planes]]]:
    """What decodes the windows of a training on this machine. Without Numba, that is PyAV."""
    try:
        from shards.decode.window_planes import proof_planes
    except UNUSABLE_NUMBA as error:
        _logger.warning("PyAV proves the packet indices, because Numba cannot be used: %s", error)
        return pyav_proof_planes
    return proof_planes


def has_same_pictures(
    whole: Iterator[VideoFrame], alone: Iterator[tuple[int, Planes]], size: tuple[int, int]
) -> bool:
    """Whether both ways of decoding give the same pictures.

    An error of `alone` means that they do not. An error of `whole` is raised.

    Args:
        whole: The frames of the whole file.
        alone: Their planes, in turns.
        size: (height, width) in pixels.
    """
    try:
        return are_same_pictures(whole, alone, size)
    except DecodeError:
        return False
