"""One video file -> the bytes that go into a shard.

One design choice: every picture that is promised has been decoded. The source is decoded in full
to be encoded, the result is decoded in full to be counted, and anything amiss is an error with a
reason. That costs about a third of the encoding time. One thread per video: the bytes depend on
the input, the recipe and the libraries alone, and the processes next door need the other cores.
"""

import errno
import io
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from shards.encode.encoders import ENCODERS
from shards.encode.picture import filtered
from shards.encode.probe import (
    Probe,
    VideoFaultError,
    container_extension,
    decoded,
    open_video,
    probe,
    video_stream,
)
from shards.encode.recipe import Recipe
from shards.sources.class_folders import VIDEO_EXTENSIONS

__all__ = ["Encoded", "Recipe", "TranscodeError", "transcode"]

_MAX_ENCODED_FPS = 60
# What ails the disk, the network or the permissions, not the video.
_PASSING_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.EAGAIN}
    | {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.EHOSTDOWN}
)


class TranscodeError(Exception):
    """A video cannot be used: "file name: reason".

    `may_pass`: another try may go well, with the same file (permissions, a disk, a time limit).
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A checked video; all of `num_frames` decode. `extension` without a dot; sizes in px."""

    data: bytes
    num_frames: int
    fps: Fraction
    height: int
    width: int
    codec: str
    extension: str = "mp4"


def transcode(path: Path, recipe: Recipe) -> Encoded:
    """The video as the recipe wants it, checked by decoding all of it.

    Raises:
        TranscodeError: the file is empty, cut off, damaged or no video, or holds no frames.
    """
    try:
        facts = probe(path)
        if recipe.codec == "copy":
            return _copy(path, facts)
        return _encode(path, _at_most_60_fps(facts), recipe)
    except VideoFaultError as error:
        raise TranscodeError(f"{path.name}: {error}") from error
    except (av.FFmpegError, OSError) as error:
        # strerror: without the path, which would make the recorded reason depend on the machine.
        raise TranscodeError(
            f"{path.name}: {error.strerror or error}", may_pass=error.errno in _PASSING_ERRORS
        ) from error


def _copy(path: Path, facts: Probe) -> Encoded:
    num_frames, height, width = 0, 0, 0
    with open_video(path) as container:
        stream = video_stream(container)
        codec = stream.codec_context.codec.canonical_name
        # A table may list files of any name, and readers go by the extension.
        suffix = path.suffix.lower()
        known = suffix in VIDEO_EXTENSIONS
        extension = suffix[1:] if known else container_extension(container)
        for frame in decoded(container, stream, facts):
            if num_frames and (frame.height, frame.width) != (height, width):
                raise VideoFaultError(f"the picture size changes at frame {num_frames}")
            num_frames, height, width = num_frames + 1, frame.height, frame.width
    return Encoded(
        data=path.read_bytes(),
        num_frames=num_frames,
        fps=facts.fps,
        height=height,
        width=width,
        codec=codec,
        extension=extension,
    )


def _at_most_60_fps(facts: Probe) -> Probe:
    """What the encoder goes by: of faster videos, frames are left out."""
    if facts.fps <= _MAX_ENCODED_FPS:
        return facts
    return replace(facts, fps=Fraction(_MAX_ENCODED_FPS), is_constant=False)


def _encode(path: Path, facts: Probe, recipe: Recipe) -> Encoded:
    num_wanted = None
    if recipe.max_seconds is not None:
        num_wanted = max(1, round(facts.fps * Fraction(recipe.max_seconds)))
    output = io.BytesIO()
    encoder = None
    num_frames = 0
    with (
        open_video(path) as container,
        av.open(output, "w", format="mp4", options={"fflags": "+bitexact"}) as target,
    ):
        stream = video_stream(container)
        for frame in filtered(decoded(container, stream, facts), stream, facts, recipe):
            if num_frames == num_wanted:
                break
            encoder = encoder or _add_encoder(target, frame, facts.fps, recipe)
            frame.pts, frame.time_base = num_frames, 1 / facts.fps
            # Else the encoder would make a keyframe wherever the source has one.
            frame.pict_type = PictureType.NONE
            _mux(target, encoder, frame)
            num_frames += 1
        assert encoder is not None  # decoded() refuses videos without frames
        _mux(target, encoder, None)
    encoded = Encoded(
        data=output.getvalue(),
        num_frames=num_frames,
        fps=facts.fps,
        height=encoder.height,
        width=encoder.width,
        codec=recipe.codec,
    )
    check_decodes(encoded)
    return encoded


def _add_encoder(
    target: OutputContainer, frame: VideoFrame, fps: Fraction, recipe: Recipe
) -> VideoStream:
    """A stream for frames like this one."""
    encoder = ENCODERS[recipe.codec]
    stream = target.add_stream(encoder.name, rate=fps, options=encoder.options(recipe))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, encoder.pix_fmt
    context = stream.codec_context
    context.time_base = 1 / fps
    context.thread_count = 1
    if encoder.codec_tag:
        context.codec_tag = encoder.codec_tag
    # The filters see to the range; the matrix is known only where the source says.
    context.color_range = ColorRange.JPEG if encoder.is_full_range else ColorRange.MPEG
    context.colorspace = frame.colorspace
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
    return stream


def _mux(target: OutputContainer, encoder: VideoStream, frame: VideoFrame | None) -> None:
    for packet in encoder.encode(frame):
        # Without it the last frame would have no length, and the file a wrong mean rate.
        if not packet.duration and packet.time_base:
            packet.duration = round(1 / (encoder.codec_context.framerate * packet.time_base))
        target.mux(packet)


def check_decodes(encoded: Encoded) -> None:
    """Decodes all of it.

    Raises:
        VideoFaultError: it does not decode to what it says.
        av.FFmpegError: it does not decode.
    """
    num_frames = 0
    with av.open(io.BytesIO(encoded.data), "r") as container:
        stream = video_stream(container)
        for packet in container.demux(stream):
            for frame in packet.decode():
                if frame.is_corrupt or (frame.height, frame.width) != (
                    encoded.height,
                    encoded.width,
                ):
                    raise VideoFaultError(f"stored frame {num_frames} is damaged")
                num_frames += 1
    if num_frames != encoded.num_frames:
        raise VideoFaultError(f"stored {encoded.num_frames} frames, of which {num_frames} decode")
