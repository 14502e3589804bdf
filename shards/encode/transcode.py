"""One video file to the bytes that go into a shard.

One design choice: every frame that the manifest promises has been decoded. The source is decoded to
encode it. The result is decoded in full to count its frames, and each of its GOPs by itself to
prove the packet index. A problem is an error with a reason. A video is encoded in one thread. Its
bytes then depend only on the file, the recipe and the libraries. Other processes use the other
cores.
"""

import errno
import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import inf
from pathlib import Path

import av

from shards.encode.check_stored import check_stored
from shards.encode.picture_filters import counted_number, filtered
from shards.encode.picture_format import PictureFormat, picture_format
from shards.encode.probe import Probe, probe
from shards.encode.recipe import MAX_ENCODED_FPS, Recipe
from shards.encode.video_stream import (
    VideoFaultError,
    container_extension,
    decoded,
    open_video,
)
from shards.encode.video_writer import VideoWriter
from shards.files.names import VIDEO_EXTENSIONS
from shards.format.packet_index import Packets
from shards.sources.segment import Segment

# Their cause is the machine, the network or the permissions, not the video.
_PASSING_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.EAGAIN}
    | {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.EHOSTDOWN}
)


class TranscodeError(Exception):
    """A video cannot be used: "file name: reason".

    Attributes:
        may_pass: Whether another try may succeed with the same file, because the cause was the
            permissions, a disk or a time limit.
        is_missing: Whether the machine that was to encode the video has no such file.
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
        packets: Where its frames lie, proven; None if GOPs do not decode by themselves, and for a
            file that is kept as it is.
        extension: The extension of its file, without a dot.
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

    @cached_property
    def sha256(self) -> str:
        """The hex digest of `data`."""
        return hashlib.sha256(self.data).hexdigest()


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
        probed = probe(path)
        results: Iterable[Encoded | TranscodeError]
        if recipe.codec_type.keeps_files:
            assert all(part is None for part in parts)
            results = [_copy(path, probed)]
        else:
            results = _encode_parts(path, _at_stored_rate(probed, recipe), parts, recipe)
        for result in results:
            yield result
            num_done += 1
    except (VideoFaultError, MemoryError, av.FFmpegError, OSError) as error:
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
    return TranscodeError(f"{path.name}: {error}")


def _copy(path: Path, probed: Probe) -> Encoded:
    with open_video(path) as (container, stream):
        codec = stream.codec_context.codec.canonical_name
        # A table may list files of any name, but readers need the right extension.
        suffix = path.suffix.lower()
        known = suffix in VIDEO_EXTENSIONS
        extension = suffix[1:] if known else container_extension(container)
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
    """The same with a rate of at most 60: the encoder leaves out frames of faster videos."""
    if probed.fps <= MAX_ENCODED_FPS:
        return probed
    return replace(probed, fps=Fraction(MAX_ENCODED_FPS), is_constant=False)


def _at_stored_rate(probed: Probe, recipe: Recipe) -> Probe:
    """The same with the rate of the recipe."""
    if recipe.fps is None:
        return at_most_60_fps(probed)
    if recipe.fps == probed.fps:
        return probed
    counted_fps = probed.fps if probed.is_constant else None
    return replace(probed, fps=Fraction(recipe.fps), is_constant=False, counted_fps=counted_fps)


def _encode_parts(
    path: Path, probed: Probe, parts: Sequence[Segment | None], recipe: Recipe
) -> Iterator[Encoded | TranscodeError]:
    """Yields the result of each part, as `transcode_parts` does.

    Raises:
        VideoFaultError, MemoryError, av.FFmpegError, OSError: For the part that is next.
    """
    spans = [_span(part, probed.fps, recipe.max_seconds) for part in parts]
    firsts, ends = sorted(first for first, _ in spans), sorted(end for _, end in spans)
    waiting = sorted(
        (index for index, (first, end) in enumerate(spans) if first < end),
        key=lambda index: spans[index],
        reverse=True,
    )
    writers: dict[int, VideoWriter] = {}
    results: dict[int, Encoded | TranscodeError] = {}
    num_yielded = 0

    def is_wanted(number: int) -> bool:
        return bisect_right(firsts, number) > bisect_right(ends, number)

    try:
        with open_video(path) as (container, stream):
            frames = decoded(container, stream, probed.num_packets)
            for count, frame in enumerate(filtered(frames, stream, probed, recipe, is_wanted)):
                number = counted_number(frame, probed) if probed.is_constant else count
                while waiting and spans[waiting[-1]][0] <= number:
                    writers[waiting.pop()] = VideoWriter(frame, probed.fps, recipe)
                for index, writer in list(writers.items()):
                    writer.add(frame)
                    if number + 1 >= spans[index][1]:
                        results[index] = _finished(writers.pop(index), probed.fps, recipe)
                while num_yielded in results:
                    yield results.pop(num_yielded)
                    num_yielded += 1
                if not waiting and not writers:
                    break
        for index, part in enumerate(parts[num_yielded:], num_yielded):
            if index in results:
                yield results[index]
            elif index in writers and (part is None or part.end_s is None):
                yield _finished(writers.pop(index), probed.fps, recipe)
            else:
                yield TranscodeError(f"{path.name}: {_no_frames(part, probed, spans[index])}")
    finally:
        for writer in writers.values():
            writer.close()


def _span(
    part: Segment | None, fps: Fraction, max_seconds: float | None
) -> tuple[int, int | float]:
    """The first frame of a part, and the one after its last; `inf` for the end of the file."""
    first, end = 0, inf
    if part is not None:
        first, end = part.first_frame(fps), part.end_frame(fps) or inf
    if max_seconds is not None:
        end = min(end, first + max(1, round(fps * Fraction(max_seconds))))
    return first, end


def _finished(writer: VideoWriter, fps: Fraction, recipe: Recipe) -> Encoded:
    """The video of a writer, after decoding all of it.

    Raises:
        VideoFaultError: Not all of it decodes.
    """
    data, size = writer.finish(), (writer.height, writer.width)
    checked = check_stored(data, writer.num_frames, size, recipe.codec)
    return Encoded(
        data=data,
        num_frames=writer.num_frames,
        fps=fps,
        height=writer.height,
        width=writer.width,
        codec=recipe.codec,
        pictures=checked.pictures,
        packets=checked.packets if checked.is_proven else None,
    )


def _no_frames(part: Segment | None, probed: Probe, span: tuple[int, int | float]) -> str:
    """Why a part has no frames, or ends after the file."""
    if part is None:  # the rate is reduced, and the time of the file rounds to no frame
        return f"shorter than one frame at {probed.fps} frames per second"
    if span[0] >= span[1]:
        return part.problem("end_s", f"no frame since start_s, at {probed.fps} frames per second")
    name = "start_s" if span[0] >= probed.num_frames or part.end_s is None else "end_s"
    length_s = float(probed.num_frames / probed.fps)
    return part.problem(name, f"after the end of the file, which has about {length_s:.2f} s")
