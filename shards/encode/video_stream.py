"""Opens a video, chooses its stream, and decodes it: the only place where FFmpeg reads a file.

A file may come from a stranger. So it cannot make FFmpeg open another file or a network connection,
and the size of its pictures is limited. The stream is the best video stream, as FFmpeg ranks them.
It is decoded in one thread, because many videos are decoded at a time.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shards.format.video import MAX_HEIGHT_PX, MAX_WIDTH_PX

_MAX_PIXELS = MAX_HEIGHT_PX * MAX_WIDTH_PX
# Playlists are left out because they open other files, text art because it is not a video.
_DEMUXERS = "avi,mov,matroska,flv,asf,mpeg,mpegts,mpegvideo,ogg,gif,ivf,mxf,rm"
# Demuxers whose files usually have another extension than the name of the demuxer.
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


@contextmanager
def faults_named(what: str) -> Iterator[None]:
    """Says what is wrong where FFmpeg has only a reason, such as "Invalid argument".

    Errors of the disk and a lack of memory are raised unchanged. "Resource temporarily unavailable"
    is not one of the disk: a demuxer says it where damage goes on for too long.

    Raises:
        VideoFaultError: `what`, then FFmpeg's reason.
    """
    try:
        yield
    except av.FFmpegError as error:
        is_of_machine = isinstance(error, OSError | MemoryError)
        if is_of_machine and not isinstance(error, av.BlockingIOError):
            raise
        raise VideoFaultError(f"{what} ({error.strerror or error})") from error


@contextmanager
def open_video(file: Path | bytes) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file, or the bytes of one; gives its container and its best video stream.

    Raises:
        VideoFaultError: It is not a video, there is no video stream, it cannot be decoded here, or
            its picture is too large.
        av.FFmpegError: It is unreadable.
    """
    with _container(file) as container:
        yield container, _video_stream(container)


def decoded(
    container: InputContainer, stream: VideoStream, num_packets: int
) -> Iterator[VideoFrame]:
    """Yields every frame in display order.

    Args:
        container: From `open_video`.
        stream: From `open_video`.
        num_packets: Packets that hold a picture, as `probe` counts them.

    Raises:
        VideoFaultError: A frame is damaged or does not decode, or most frames are missing.
        av.FFmpegError: The file is unreadable.
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
    # Half is enough, because some packets give no picture: those of packed B-frames, hidden
    # reference frames and field pairs.
    if num_frames < max(1, num_packets // 2):
        raise VideoFaultError(f"only {num_frames} of {num_packets} frames decode")


def _decode(packet: "Packet[Any]", num_frames: int) -> list[Any]:
    with faults_named(f"frame {num_frames} does not decode"):
        try:
            return list(packet.decode())
        except av.ArgumentError as error:
            raise VideoFaultError(
                f"the decoder refuses frame {num_frames}: too many pixels, or broken"
            ) from error


def _container(file: Path | bytes) -> InputContainer:
    # FFmpeg gets the whole path, because it takes the start of "http:/host/a.mp4" for a protocol.
    source = io.BytesIO(file) if isinstance(file, bytes) else str(file.absolute())
    with faults_named("not a video, or its header is damaged"):
        return av.open(
            source,
            "r",
            options={
                "format_whitelist": _DEMUXERS,
                "protocol_whitelist": "file",
                # FFmpeg may decode pictures to learn their format. This limit is above
                # the real one, so that a message can name the size.
                "max_pixels": str(4 * _MAX_PIXELS),
            },
            # Titles and comments are not pictures. Old files have them in any encoding.
            metadata_errors="ignore",
        )


def container_extension(container: InputContainer) -> str:
    """The usual extension for the container's format, without a dot; ignores the file's name."""
    demuxer = container.format.name.partition(",")[0]
    return _EXTENSIONS.get(demuxer, demuxer)


def _video_stream(container: InputContainer) -> VideoStream:
    """The best video stream, set to decode in one thread."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise VideoFaultError("no video stream")
    context = stream.codec_context
    if context is None:
        raise VideoFaultError("no decoder for its video stream")
    if not context.width * context.height:
        raise VideoFaultError("the header has no picture size, or one too large for any decoder")
    size = f"{context.width}x{context.height}"
    if context.width * context.height > _MAX_PIXELS:
        raise VideoFaultError(
            f"pictures of {size}, more pixels than {MAX_WIDTH_PX}x{MAX_HEIGHT_PX}"
        )
    # A picture after the first one may be larger than the header says.
    context.options = {"max_pixels": str(_MAX_PIXELS)}
    context.thread_type = "NONE"
    context.thread_count = 1
    return stream
