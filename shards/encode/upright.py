"""The frames of any video file, decoded and upright: as `tb shard` stores them, but not encoded.

A file that is upright already, with square pixels and a constant rate, is shown as it is. So a
stored video gives its own frames unchanged. Other files go through the filters of the default
recipe.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

from av.video.frame import VideoFrame

from shards.encode.picture_filters import filtered, is_plain
from shards.encode.probe import open_probed
from shards.encode.recipe import Recipe
from shards.encode.transcode import at_most_60_fps
from shards.encode.video_stream import VideoFaultError, decoded


@dataclass(frozen=True, kw_only=True)
class UprightVideo:
    """A file that is being decoded.

    Attributes:
        frames: The frames from the first one on; they can be read once.
        fps: Frames per second: frame i is shown at i / fps.
        num_promised: How many frames the packets promise. There may be fewer, or more.
        size: (height, width) of the frames, in pixels.
    """

    frames: Iterator[VideoFrame]
    fps: Fraction
    num_promised: int
    size: tuple[int, int]


@contextmanager
def open_upright(path: Path) -> Iterator[UprightVideo]:
    """Opens a file. First it reads all packets, because headers are often wrong.

    Raises:
        VideoFaultError: The file is not a video, or it is empty, cut off, damaged, or without
            frames; also while its frames are read.
        av.FFmpegError: It is unreadable; also while its frames are read.
    """
    with open_probed(path) as (container, stream, counted):
        probed = at_most_60_fps(counted)
        first, frames = _peeked(decoded(container, stream, probed.num_packets))
        if not is_plain(first, stream, probed):
            first, frames = _peeked(filtered(frames, stream, probed, Recipe()))
        size = (first.height, first.width)
        del first  # so that the decoder can use its memory again
        yield UprightVideo(frames=frames, fps=probed.fps, num_promised=probed.num_frames, size=size)


def _peeked(frames: Iterator[VideoFrame]) -> tuple[VideoFrame, Iterator[VideoFrame]]:
    """The first frame, and all of them."""
    first = next(frames, None)
    if first is None:
        raise VideoFaultError("0 frames")
    return first, chain([first], frames)
