"""From a file, or from decoded frames, to the clips that a classifier is shown.

Files are decoded from their first frame to their last, and no frame is kept. So a long video takes
as much memory as a short one.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice, repeat
from math import ceil
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from loaders import Render
from shards.decode.packet_decoder import DecodeError
from shards.encode.upright import open_upright
from shards.encode.video_stream import VideoFaultError
from shards.errors import InputError
from shards.files.names import readable_name
from shards.files.path_kinds import exists, is_file, is_folder
from shards.files.video_names import has_video_name
from tb.weights.classifier_input import ClassifierInput

GROUP = "clips"


@dataclass(frozen=True, kw_only=True)
class ShownClips:
    """The clips of a video, or of a stretch of it.

    Attributes:
        video: The video's name.
        begin_s: Where the stretch begins, in seconds.
        end_s: Where it ends; None where frames have no rate.
        clips: (clips, crops, 3, T, S, S) float32.
    """

    video: str
    begin_s: float
    end_s: float | None
    clips: Tensor


def find_videos(places: Iterable[Path]) -> list[Path]:
    """The given files, and all videos in the given folders and below, by name.

    Raises:
        InputError: A file or folder does not exist, or a folder has no videos.
    """
    found = []
    for place in places:
        if not is_folder(place):
            if not exists(place):
                raise InputError(f"{place}: no such file or folder")
            found.append(place)
            continue
        inside = [path for path in place.rglob("*") if has_video_name(path.name) and is_file(path)]
        if not inside:
            raise InputError(f"{place}: no videos in this folder; give their files or folders")
        found += sorted(inside)
    return found


def video_name(path: Path) -> str:
    """The path as text that JSON and CSV can hold."""
    return readable_name(str(path))


def whole_video(path: Path, render: Render) -> ShownClips:
    """The clips over a whole file, as evaluation takes them.

    Raises:
        InputError: The file cannot be decoded; the message has its path.
    """
    num_frames = None
    # The key is for errors only, because nothing is random here.
    rendered = partial(render.footage, key=video_name(path), epoch=0)
    with naming_errors(path):
        while True:
            with open_upright(path) as video:
                frames, promised = _Counted(video.frames), num_frames or video.num_promised
                try:
                    clips = rendered(frames, promised, video.size, fps=float(video.fps))[GROUP]
                except DecodeError:
                    if frames.exhaust() == promised:
                        raise
                num_frames = frames.exhaust()
                if num_frames == promised:
                    end_s = float(num_frames / video.fps)
                    return ShownClips(video=video_name(path), begin_s=0.0, end_s=end_s, clips=clips)
            # The packets promised another number of frames, and the clips were chosen for it.


def stretches(path: Path, render: Render, every_s: Fraction) -> Iterator[ShownClips]:
    """Yields the clips of each `every_s` seconds of a file, as if each stretch were a video.

    The last stretch may be shorter. Where it has fewer frames than the packets promise, its last
    frame is repeated.

    Raises:
        InputError: The file cannot be decoded; the message has its path. It may be raised while
            iterating.
    """
    with naming_errors(path), open_upright(path) as video:
        frames, begin, number = _Counted(video.frames), 0, 0
        rendered = partial(render.footage, key=video_name(path), epoch=0, fps=float(video.fps))
        while not frames.is_over():
            number += 1
            end = max(begin + 1, ceil(number * every_s * video.fps))
            # After the promised end, a stretch counts as complete.
            length = min(end, video.num_promised if begin < video.num_promised else end) - begin
            stretch = islice(frames, end - begin)
            clips = rendered(_filled(stretch), length, video.size)[GROUP]
            for _ in stretch:
                pass
            yield ShownClips(
                video=video_name(path),
                begin_s=float(begin / video.fps),
                end_s=float(frames.number / video.fps),
                clips=clips,
            )
            begin = end


def clips_of_frames(frames: np.ndarray, render: Render) -> ShownClips:
    """The clips over decoded frames, (F, H, W, 3) uint8 RGB. They become 4:2:0, as in a video.

    Raises:
        InputError: The array has another shape or type, or the clips have `stride_s`.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size or frames.dtype != np.uint8:
        raise InputError(
            f"frames have the shape {frames.shape} and the type {frames.dtype}: give (F, H, W, 3)"
            " uint8 RGB"
        )
    if render.spec.stride_s is not None:
        raise InputError(
            f"stride_s of this classifier's clips is {render.spec.stride_s:g}, and frames in an"
            " array have no rate: give a video file"
        )
    pictures = (_picture(frame) for frame in frames)
    clips = render.footage(pictures, len(frames), frames.shape[1:3], key=0, epoch=0)[GROUP]
    return ShownClips(video="frames", begin_s=0.0, end_s=None, clips=clips)


def render_of(shown: ClassifierInput, num_clips: int | None, engine: str) -> Render:
    """The `Render` that makes these clips; `num_clips` replaces the number of clips.

    Raises:
        InputError: The number of clips or the engine is unusable.
    """
    if num_clips is not None and num_clips < 1:
        raise InputError(f"clips is {num_clips}: give 1 or more")
    return Render(shown.with_clips(num_clips).views(), engine=engine)


@contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Turns the errors of a file that is decoded into an InputError with its path."""
    try:
        yield
    except (VideoFaultError, DecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


class _Counted(Iterator[VideoFrame]):
    """An iterator over frames that counts those that were read."""

    def __init__(self, frames: Iterator[VideoFrame]) -> None:
        self._frames = frames
        self._peeked: VideoFrame | None = None
        self.number = 0

    def __next__(self) -> VideoFrame:
        frame, self._peeked = self._peeked or next(self._frames), None
        self.number += 1
        return frame

    def is_over(self) -> bool:
        """Whether there is no further frame."""
        self._peeked = self._peeked or next(self._frames, None)
        return self._peeked is None

    def exhaust(self) -> int:
        """Reads the rest, and returns how many frames there are."""
        for _ in self:
            pass
        return self.number


def _filled(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yields the frames, then the last one again and again."""
    last = None
    for last in frames:
        yield last
    if last is not None:
        yield from repeat(last)


def _picture(rgb: np.ndarray) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
    )
