"""One video file to the bytes that go into a shard.

One design choice: every frame that the manifest promises has been decoded. The source is decoded to
encode it. The result is decoded in full to count its frames, and each of its GOPs by itself to
prove the packet index. A problem becomes an error with a reason. A video is encoded in one thread.
Its bytes then depend only on the file, the recipe and the libraries. Other processes use the other
cores.
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from shards.encode.encode_parts import encode_parts
from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.picture_format import picture_format
from shards.encode.probe import Probe, open_probed
from shards.encode.recipe import MAX_ENCODED_FPS, Recipe
from shards.encode.video_stream import (
    VideoFaultError,
    container_extension,
    decoded,
)
from shards.files.machine_errors import MachineError
from shards.files.video_names import VIDEO_EXTENSIONS
from shards.sources.segment import Segment

# The cause of these is the machine, the network or the permissions, not the video.
_PASSING_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.EAGAIN}
    | {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.EHOSTDOWN}
)


def transcode(path: Path, recipe: Recipe) -> Encoded:
    """The video as the recipe stores it, checked by decoding all of it.

    Raises:
        TranscodeError: The file is empty, cut off, damaged, not a video, or without frames, or this
            machine cannot read it.
    """
    (result,) = transcode_parts(path, [None], recipe)
    if isinstance(result, TranscodeError):
        raise result
    return result


def transcode_parts(
    path: Path, parts: Sequence[Segment | None], recipe: Recipe
) -> Iterator[Encoded | TranscodeError]:
    """Yields the stored form of each part of a file, or its error, in order; it is decoded once.

    A part is stored as if its frames were a separate file. If a frame is damaged, the parts that
    need this frame or a later one get an error.

    Args:
        path: The file.
        parts: Segments, and None for the whole file. If they are in the order of their ends, each
            is ready when its last frame is decoded. Parts that overlap are encoded at the same
            time.
        recipe: How to store them; "copy" stores whole files only.
    """
    num_done = 0
    try:
        with open_probed(path) as (container, stream, probed):
            results: Iterable[Encoded | TranscodeError]
            if recipe.codec_type.keeps_files:
                assert all(part is None for part in parts)
                results = [_copy(path, container, stream, probed)]
            else:
                frames = decoded(container, stream, probed.num_packets)
                stored = _at_stored_rate(probed, recipe)
                results = encode_parts(path.name, frames, stream, stored, parts, recipe)
            for result in results:
                yield result
                num_done += 1
    except (VideoFaultError, MachineError, MemoryError, av.FFmpegError, OSError) as error:
        for _ in parts[num_done:]:
            yield _named(path, error)


def _named(path: Path, error: Exception) -> TranscodeError:
    """The error for the user, for a problem of the video or of the machine."""
    if isinstance(error, MemoryError):
        return TranscodeError(
            f"{path.name}: too little memory: the video is too large, or its header promises too"
            " much",
            may_pass=True,
        )
    if isinstance(error, av.FFmpegError | OSError):
        # strerror has no path, so the recorded reason is the same on every machine.
        return TranscodeError(
            f"{path.name}: {error.strerror or error}",
            may_pass=error.errno in _PASSING_ERRORS,
            is_missing=error.errno == errno.ENOENT,
        )
    is_of_machine = isinstance(error, MachineError)
    return TranscodeError(f"{path.name}: {error}", may_pass=is_of_machine)


def _copy(path: Path, container: InputContainer, stream: VideoStream, probed: Probe) -> Encoded:
    codec = stream.codec_context.codec.canonical_name
    # A table may list files of any name, but readers need the right extension.
    suffix = path.suffix.lower()
    extension = suffix[1:] if suffix in VIDEO_EXTENSIONS else container_extension(container)
    frames = decoded(container, stream, probed.num_packets)
    first = next(frames)  # `decoded` raises an error if there is none
    pictures, height, width = picture_format(stream, first), first.height, first.width
    num_frames = 1
    for frame in frames:
        if (frame.height, frame.width) != (height, width):
            raise VideoFaultError(f"the picture size changes at frame {num_frames}")
        num_frames += 1
    return Encoded(
        data=path.read_bytes(),
        num_frames=num_frames,
        fps=probed.fps,
        height=height,
        width=width,
        codec=codec,
        pictures=pictures,
        extension=extension,
    )


def at_most_60_fps(probed: Probe) -> Probe:
    """The probe with a rate of at most 60. The encoder leaves out frames of faster videos."""
    if probed.fps <= MAX_ENCODED_FPS:
        return probed
    return replace(probed, fps=Fraction(MAX_ENCODED_FPS), is_constant=False)


def _at_stored_rate(probed: Probe, recipe: Recipe) -> Probe:
    """The probe with the rate of the recipe."""
    if recipe.fps is None:
        return at_most_60_fps(probed)
    if recipe.fps == probed.fps:
        return probed
    counted_fps = probed.fps if probed.is_constant else None
    return replace(probed, fps=Fraction(recipe.fps), is_constant=False, counted_fps=counted_fps)
