"""`VideoWriter`: frames -> the bytes of a video in the form that a recipe wants."""

import io
from fractions import Fraction

import av
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from shards.encode.recipe import Recipe


class VideoWriter:
    """Encodes frames that `filtered` has made; always close it.

    Attributes:
        num_frames: How many frames were added.
        height: Pixels.
        width: Pixels.
    """

    def __init__(self, frame: VideoFrame, fps: Fraction, recipe: Recipe) -> None:
        """Prepares an encoder for frames like this one; adds no frame yet.

        Args:
            frame: The first frame.
            fps: Frames per second.
            recipe: How to store it.
        """
        self._fps = fps
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
        self.num_frames, self.height, self.width = 0, stream.height, stream.width

    def add(self, frame: VideoFrame) -> None:
        """Encodes the next frame; another writer may get the same frame afterwards."""
        frame.pts, frame.time_base = self.num_frames, 1 / self._fps
        # Otherwise the encoder makes a keyframe wherever the source has one.
        frame.pict_type = PictureType.NONE
        self._mux(frame)
        self.num_frames += 1

    def finish(self) -> bytes:
        """The whole file."""
        self._mux(None)
        self._container.close()
        return self._output.getvalue()

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
