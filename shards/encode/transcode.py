"""One video file to the bytes that go into a shard.

One design choice: every picture that is promised has been decoded. The source is decoded in full
to encode it. The result is decoded in full to count its frames, and each of its GOPs by itself to
prove the packet index. A problem is an error with a reason. A video is encoded in one thread: its
bytes then depend only on the file, the recipe and the libraries, and other processes need the other
cores.
"""

import errno
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from shards.encode.find_packets import decoded_alone, find_packets, has_same_pictures
from shards.encode.picture_filters import filtered
from shards.encode.picture_format import PictureFormat, picture_format
from shards.encode.probe import Probe, decoded, probe
from shards.encode.recipe import Recipe
from shards.encode.video_stream import (
    VideoFaultError,
    container_extension,
    open_video,
)
from shards.files.names import VIDEO_EXTENSIONS
from shards.format.packet_index import Packets

_MAX_ENCODED_FPS = 60
# The cause is the disk, the network or the permissions, not the video.
_PASSING_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.EAGAIN}
    | {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.EHOSTDOWN}
)


class TranscodeError(Exception):
    """A video cannot be used: "file name: reason".

    Attributes:
        may_pass: Whether another try may succeed with the same file, because the cause was the
            permissions, a disk or a time limit.
        is_missing: Whether there is no such file where the video was to be encoded.
    """

    def __init__(self, message: str, *, may_pass: bool = False, is_missing: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        self.is_missing = is_missing


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A checked video: all of its frames decode.

    Attributes:
        data: The whole file.
        num_frames: How many frames it decodes to.
        fps: Frames per second.
        height: Pixels.
        width: Pixels.
        codec: FFmpeg's name.
        pictures: What its pixels mean.
        packets: Where its frames lie, proven; None where GOPs do not decode by themselves.
        extension: Of its container, without a dot.
    """

    data: bytes
    num_frames: int
    fps: Fraction
    height: int
    width: int
    codec: str
    pictures: PictureFormat
    packets: Packets | None = None
    extension: str = "mp4"


def transcode(path: Path, recipe: Recipe) -> Encoded:
    """The video as the recipe stores it, checked by decoding all of it.

    Raises:
        TranscodeError: The file is empty, cut off, damaged, not a video, or without frames.
    """
    try:
        probed = probe(path)
        if recipe.codec_type.keeps_files:
            return _copy(path, probed)
        return _encode(path, at_most_60_fps(probed), recipe)
    except VideoFaultError as error:
        raise TranscodeError(f"{path.name}: {error}") from error
    except MemoryError as error:
        raise TranscodeError(
            f"{path.name}: too little memory: the video is too large, or its header promises too"
            " much",
            may_pass=True,
        ) from error
    except (av.FFmpegError, OSError) as error:
        # strerror has no path, so the recorded reason is the same on every machine.
        raise TranscodeError(
            f"{path.name}: {error.strerror or error}",
            may_pass=error.errno in _PASSING_ERRORS,
            is_missing=error.errno == errno.ENOENT,
        ) from error


def _copy(path: Path, probed: Probe) -> Encoded:
    num_frames, height, width, decoded_format = 0, 0, 0, ""
    with open_video(path) as (container, stream):
        pictures = picture_format(stream)
        codec = stream.codec_context.codec.canonical_name
        # A table may list files of any name, but readers need the right extension.
        suffix = path.suffix.lower()
        known = suffix in VIDEO_EXTENSIONS
        extension = suffix[1:] if known else container_extension(container)
        for frame in decoded(container, stream, probed):
            if num_frames and (frame.height, frame.width) != (height, width):
                raise VideoFaultError(f"the picture size changes at frame {num_frames}")
            num_frames, height, width = num_frames + 1, frame.height, frame.width
            decoded_format = frame.format.name
    return Encoded(
        data=path.read_bytes(),
        num_frames=num_frames,
        fps=probed.fps,
        height=height,
        width=width,
        codec=codec,
        pictures=pictures.or_pixel_format(decoded_format),
        extension=extension,
    )


def at_most_60_fps(probed: Probe) -> Probe:
    """The same with a rate of at most 60: the encoder leaves out frames of faster videos."""
    if probed.fps <= _MAX_ENCODED_FPS:
        return probed
    return replace(probed, fps=Fraction(_MAX_ENCODED_FPS), is_constant=False)


def _encode(path: Path, probed: Probe, recipe: Recipe) -> Encoded:
    num_wanted = None
    if recipe.max_seconds is not None:
        num_wanted = max(1, round(probed.fps * Fraction(recipe.max_seconds)))
    output = io.BytesIO()
    encoder = None
    num_frames = 0
    with (
        open_video(path) as (container, stream),
        av.open(output, "w", format="mp4", options={"fflags": "+bitexact"}) as target,
    ):
        for frame in filtered(decoded(container, stream, probed), stream, probed, recipe):
            if num_frames == num_wanted:
                break
            encoder = encoder or _add_encoder(target, frame, probed.fps, recipe)
            frame.pts, frame.time_base = num_frames, 1 / probed.fps
            # Otherwise the encoder makes a keyframe wherever the source has one.
            frame.pict_type = PictureType.NONE
            _mux(target, encoder, frame)
            num_frames += 1
        if encoder is None:  # its rate is reduced, and its time rounds to no frame
            raise VideoFaultError(f"shorter than one frame at {probed.fps} frames per second")
        _mux(target, encoder, None)
    data, height, width = output.getvalue(), encoder.height, encoder.width
    packets = find_packets(data)
    checked = check_decodes(
        data,
        num_frames=num_frames,
        height=height,
        width=width,
        codec=recipe.codec,
        packets=packets,
    )
    return Encoded(
        data=data,
        num_frames=num_frames,
        fps=probed.fps,
        height=height,
        width=width,
        codec=recipe.codec,
        pictures=checked.pictures,
        packets=packets if checked.is_proven else None,
    )


def _add_encoder(
    target: OutputContainer, frame: VideoFrame, fps: Fraction, recipe: Recipe
) -> VideoStream:
    """A stream for frames like this one."""
    codec = recipe.codec_type
    stream = target.add_stream(codec.encoder, rate=fps, options=recipe.encoder_options())
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, codec.pixel_format
    context = stream.codec_context
    context.time_base = 1 / fps
    context.thread_count = 1
    if codec.container_tag:
        context.codec_tag = codec.container_tag
    # The filters convert the range. The matrix is known only if the source has a tag for it.
    context.color_range = ColorRange.JPEG if codec.is_full_range else ColorRange.MPEG
    context.colorspace = frame.colorspace
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
    return stream


def _mux(target: OutputContainer, encoder: VideoStream, frame: VideoFrame | None) -> None:
    for packet in encoder.encode(frame):
        # Without it the last frame has no duration, and the mean rate of the file is wrong.
        if not packet.duration and packet.time_base:
            packet.duration = round(1 / (encoder.codec_context.framerate * packet.time_base))
        target.mux(packet)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What decoding all of a stored video has shown.

    Attributes:
        pictures: What its pixels mean.
        is_proven: Whether every GOP, decoded by itself, gives the same pictures.
    """

    pictures: PictureFormat
    is_proven: bool


def check_decodes(
    data: bytes,
    *,
    num_frames: int,
    height: int,
    width: int,
    codec: str,
    packets: Packets | None,
) -> Checked:
    """Decodes a stored video in full, and each of its GOPs by itself if it has `packets`.

    Raises:
        VideoFaultError: It is not a video, or not one of `num_frames` frames of that size.
        av.FFmpegError: It does not decode.
    """
    with open_video(data) as (container, stream):
        pictures = picture_format(stream)
        whole = _stored_frames(container, stream, num_frames, (height, width))
        first = next(whole)
        pictures = pictures.or_pixel_format(first.format.name)
        is_proven = packets is not None and has_same_pictures(
            chain([first], whole), decoded_alone(packets, data, codec, (height, width))
        )
        for _ in whole:
            pass
    return Checked(pictures=pictures, is_proven=is_proven)


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
