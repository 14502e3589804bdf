"""Frames of one file -> the stored form of each of its parts.

A file is decoded once. Each part has its own encoder while its frames pass, so parts may overlap.
"""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import inf

import av
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from shards.encode.check_stored import check_stored
from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.picture_filters import counted_number, filtered
from shards.encode.probe import Probe
from shards.encode.recipe import Recipe
from shards.sources.segment import Segment


def encode_parts(
    name: str,
    frames: Iterator[VideoFrame],
    stream: VideoStream,
    probed: Probe,
    parts: Sequence[Segment | None],
    recipe: Recipe,
) -> Iterator[Encoded | TranscodeError]:
    """Yields the result of each part, as `transcode_parts` does.

    Args:
        name: The name of the file, for errors.
        frames: All frames of the file.
        stream: The stream of the frames.
        probed: What the packets say, with the rate at which the parts are stored.
        parts: See `transcode_parts`.
        recipe: How to store them.

    Raises:
        VideoFaultError, MemoryError, av.FFmpegError, OSError: For the part that is next.
    """
    spans = [_span(part, probed.fps, recipe.max_seconds) for part in parts]
    firsts, ends = sorted(first for first, _ in spans), sorted(end for _, end in spans)
    waiting = [index for index, (first, end) in enumerate(spans) if first < end]
    waiting.sort(key=spans.__getitem__, reverse=True)
    writers: dict[int, _Writer] = {}
    results: dict[int, Encoded | TranscodeError] = {}
    num_yielded = 0

    def is_wanted(number: int) -> bool:
        return bisect_right(firsts, number) > bisect_right(ends, number)

    try:
        for count, frame in enumerate(filtered(frames, stream, probed, recipe, is_wanted)):
            number = counted_number(frame, probed) if probed.is_constant else count
            while waiting and spans[waiting[-1]][0] <= number:
                writers[waiting.pop()] = _Writer(frame, probed.fps, recipe)
            for index, writer in list(writers.items()):
                writer.add(frame)
                if number + 1 >= spans[index][1]:
                    results[index] = writers.pop(index).finish()
            while num_yielded in results:
                yield results.pop(num_yielded)
                num_yielded += 1
            if not waiting and not writers:
                break
        for index, part in enumerate(parts[num_yielded:], num_yielded):
            if index in results:
                yield results[index]
            elif index in writers and (part is None or part.end_s is None):
                yield writers.pop(index).finish()
            else:
                yield TranscodeError(f"{name}: {_no_frames(part, probed, spans[index])}")
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


def _no_frames(part: Segment | None, probed: Probe, span: tuple[int, int | float]) -> str:
    """Why a part has no frames, or ends after the file."""
    if part is None:  # the rate is reduced, and the time of the file rounds to no frame
        return f"shorter than one frame at {probed.fps} frames per second"
    if span[0] >= span[1]:
        return part.problem("end_s", f"no frame since start_s, at {probed.fps} frames per second")
    name = "start_s" if span[0] >= probed.num_frames or part.end_s is None else "end_s"
    length_s = float(probed.num_frames / probed.fps)
    return part.problem(name, f"after the end of the file, which has about {length_s:.2f} s")


class _Writer:
    """Encodes frames that `filtered` has made; always close it."""

    def __init__(self, frame: VideoFrame, fps: Fraction, recipe: Recipe) -> None:
        """Prepares an encoder for frames like this one; adds no frame yet.

        Args:
            frame: The first frame.
            fps: Frames per second.
            recipe: How to store it.
        """
        self._fps, self._codec = fps, recipe.codec
        self._output = io.BytesIO()
        self._container = av.open(self._output, "w", format="mp4", options={"fflags": "+bitexact"})
        codec = recipe.codec_type
        stream = self._container.add_stream(
            codec.encoder, rate=fps, options=recipe.encoder_options()
        )
        assert isinstance(stream, VideoStream)
        self._stream = stream
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
        self._num_frames = 0

    def add(self, frame: VideoFrame) -> None:
        """Encodes the next frame; another writer may get the same frame afterwards."""
        frame.pts, frame.time_base = self._num_frames, 1 / self._fps
        # Otherwise the encoder makes a keyframe wherever the source has one.
        frame.pict_type = PictureType.NONE
        self._mux(frame)
        self._num_frames += 1

    def finish(self) -> Encoded:
        """The video, after decoding all of it.

        Raises:
            VideoFaultError: Not all of it decodes.
        """
        self._mux(None)
        size = self._stream.height, self._stream.width
        self._container.close()
        data = self._output.getvalue()
        checked = check_stored(data, self._num_frames, size, self._codec)
        return Encoded(
            data=data,
            num_frames=self._num_frames,
            fps=self._fps,
            height=size[0],
            width=size[1],
            codec=self._codec,
            pictures=checked.pictures,
            packets=checked.packets if checked.is_proven else None,
        )

    def close(self) -> None:
        """Frees the encoder."""
        self._container.close()

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            # Otherwise the last frame has no duration, and the mean rate of the file is wrong.
            if not packet.duration and packet.time_base:
                rate = self._stream.codec_context.framerate
                packet.duration = round(1 / (rate * packet.time_base))
            self._container.mux(packet)
