"""What a file holds, learnt by reading all its packets once without decoding them.

The headers' frame rates and counts are often wrong, the packets' own timestamps seldom: the frame
rate, and whether it is constant, come from these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shards.encode.truncation import missing_bytes

# 8K. FFmpeg itself would take eight times as much, and hold a dozen such pictures.
_MAX_HEIGHT_PX, _MAX_WIDTH_PX = 4320, 8192
# Beyond it, clocks are broken.
_MAX_FPS = 1000
_DEFAULT_FPS = Fraction(25)

# No playlists (they open other files) and no text art: a video file is one of these.
_DEMUXERS = "avi,mov,matroska,flv,asf,mpeg,mpegts,mpegvideo,ogg,gif,ivf,mxf,rm"
# Where the extension is not the demuxer's own name.
_EXTENSIONS = {
    "mov": "mp4",
    "matroska": "mkv",
    "mpeg": "mpg",
    "mpegts": "ts",
    "mpegvideo": "mpg",
    "ogg": "ogv",
}


class VideoFaultError(Exception):
    """Why a video cannot be used, without its name."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`is_constant`: frame i lies within one frame of i / fps, so frames can simply be counted."""

    num_packets: int
    fps: Fraction
    is_constant: bool


def open_video(path: Path) -> InputContainer:
    """Opens a file for reading its best video stream (see `video_stream`)."""
    return av.open(str(path), options={"format_whitelist": _DEMUXERS})


def container_extension(container: InputContainer) -> str:
    """The usual extension, without a dot, of files like this one, whatever its name."""
    demuxer = container.format.name.partition(",")[0]
    return _EXTENSIONS.get(demuxer, demuxer)


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream to use, set to decode in one thread (workers are processes).

    Raises:
        VideoFaultError: there is none, it cannot be decoded here, or its picture is too large.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise VideoFaultError("no video stream")
    context = stream.codec_context
    if context is None:
        raise VideoFaultError("no decoder for its video stream")
    size = f"{context.width}x{context.height}"
    if not context.width * context.height:
        raise VideoFaultError(f"pictures of {size}, or too large for any decoder")
    max_pixels = _MAX_HEIGHT_PX * _MAX_WIDTH_PX
    if context.width * context.height > max_pixels:
        raise VideoFaultError(
            f"pictures of {size}, more pixels than {_MAX_WIDTH_PX}x{_MAX_HEIGHT_PX}"
        )
    # For pictures that grow on the way.
    context.options = {"max_pixels": str(max_pixels)}
    context.thread_type = "NONE"
    context.thread_count = 1
    return stream


def probe(path: Path) -> Probe:
    """Reads every packet of the video stream.

    Raises:
        VideoFaultError: empty or cut-off file, no video stream, no packets, damaged packets.
        av.FFmpegError: not a video file, or unreadable.
    """
    if path.stat().st_size == 0:
        raise VideoFaultError("the file is empty")
    if missing := missing_bytes(path):
        raise VideoFaultError(f"truncated: {missing} bytes are missing at the end")
    times: list[Fraction] = []
    num_stored = 0
    with open_video(path) as container:
        stream = video_stream(container)
        header_fps, num_promised = stream.average_rate, stream.frames
        for packet in container.demux(stream):
            if packet.size == 0:  # the end mark
                continue
            num_stored += 1
            if packet.is_discard:  # cut away by an edit list
                continue
            if packet.is_corrupt:
                raise VideoFaultError(f"damaged data after {len(times)} packets")
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and packet.time_base:
                times.append(time * packet.time_base)
            else:
                times.append(times[-1] if times else Fraction(0))
    if not times:
        raise VideoFaultError("0 frames")
    # Half, not all: JHMDB's headers, for one, promise a fifth more than was ever stored.
    if num_stored < num_promised / 2:
        raise VideoFaultError(f"the header promises {num_promised} frames, {num_stored} are there")
    times.sort()
    fps = _frame_rate(times, header_fps)
    worst = max(abs((time - times[0]) * fps - index) for index, time in enumerate(times))
    return Probe(num_packets=len(times), fps=fps, is_constant=worst <= 1)


def decoded(container: InputContainer, stream: VideoStream, facts: Probe) -> Iterator[VideoFrame]:
    """Yields every frame in display order.

    Raises:
        VideoFaultError: a frame is damaged, or most are missing.
        av.FFmpegError: the decoder reports an error.
    """
    num_frames = 0
    for packet in container.demux(stream):
        for frame in _decode(packet, num_frames):
            if not isinstance(frame, VideoFrame):
                continue
            if frame.is_corrupt:
                raise VideoFaultError(f"frame {num_frames} is damaged")
            num_frames += 1
            yield frame
    # Not "all": packed B-frames, hidden reference frames and field pairs make packets without a
    # picture of their own.
    if num_frames < max(1, facts.num_packets // 2):
        raise VideoFaultError(f"only {num_frames} of {facts.num_packets} frames decode")


def _decode(packet: "Packet[Any]", num_frames: int) -> list[Any]:
    try:
        return list(packet.decode())
    except av.ArgumentError as error:
        raise VideoFaultError(
            f"the decoder refuses frame {num_frames}: too many pixels, or broken"
        ) from error


def _frame_rate(times: list[Fraction], header_fps: Fraction | None) -> Fraction:
    """The header's rate where the timestamps bear it out, else the mean rate."""
    header = header_fps if header_fps and 0 < header_fps <= _MAX_FPS else None
    span = times[-1] - times[0]
    if span == 0:
        fps = header or _DEFAULT_FPS
    else:
        gaps = [after - before for before, after in pairwise(times)]
        mean = len(times) / (span + median(gaps))
        if header and abs(header / mean - 1) <= Fraction(1, 10):
            fps = header
        else:
            nearest = Fraction(max(1, round(mean)))
            # Dropped frames make 25 fps look like 25.4; a whole number is the better guess.
            fps = nearest if abs(nearest / mean - 1) <= Fraction(1, 50) else mean
    fps = min(max(fps, Fraction(1, 10)), Fraction(_MAX_FPS))
    # Denominators up to 1001 hold all broadcast rates exactly and fit every container.
    return fps.limit_denominator(1001)
