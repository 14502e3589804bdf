"""How many frames a file has, and at which rate. It reads all packets and decodes none.

Frame rates and counts in headers are often wrong; the timestamps of packets rarely are. So the
frame rate comes from the timestamps, and so does whether it is constant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

from av.container import InputContainer
from av.video.stream import VideoStream

from shards.encode.truncation import missing_bytes
from shards.encode.video_stream import VideoFaultError, faults_named, open_video

# A higher rate means that the clock is broken. A header with such a rate is ignored.
_MAX_FPS = 1000
# A longer mean time from frame to frame also means that the clock is broken. It would take days to
# fill the gaps.
_MAX_GAP_S = 3600
_DEFAULT_FPS = Fraction(25)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the packets say of a video.

    Attributes:
        num_packets: Packets that hold a picture.
        fps: Frames per second.
        is_constant: Whether frame i is shown at i / fps, at most one frame earlier or later. The
            frames can then be counted, and their timestamps do not matter.
        span_s: Seconds from the first packet's time to the last one's.
        counted_fps: The constant rate of the source, if its frames are dropped or repeated to reach
            `fps`: it shows frame i at i / counted_fps. None if the timestamps count, or if
            `is_constant`.
    """

    num_packets: int
    fps: Fraction
    is_constant: bool
    span_s: Fraction
    counted_fps: Fraction | None = None

    @property
    def num_frames(self) -> int:
        """About how many frames there are at the rate `fps`; only decoding shows the number."""
        return self.num_packets if self.is_constant else round(self.span_s * self.fps) + 1


@contextmanager
def open_probed(path: Path) -> Iterator[tuple[InputContainer, VideoStream, Probe]]:
    """Opens a file, like `open_video`, and reads every packet of its stream.

    The packets are read from a second container, because not every format can go back to its first
    packet.

    Raises:
        VideoFaultError: The file is empty, cut off or not a video, or has no video stream, no
            packets, damaged packets, or a broken clock.
        av.FFmpegError: It is unreadable.
    """
    if path.stat().st_size == 0:
        raise VideoFaultError("the file is empty")
    if missing := missing_bytes(path):
        raise VideoFaultError(f"truncated: {missing} bytes are missing at the end")
    with open_video(path) as (container, stream):
        yield container, stream, _probe(path)


def _probe(path: Path) -> Probe:
    times: list[Fraction] = []
    num_stored = 0
    with open_video(path) as (container, stream), faults_named("it cannot be read to its end"):
        header_fps, num_promised = stream.average_rate, stream.frames
        for packet in container.demux(stream):
            if packet.size == 0:  # the end mark
                continue
            num_stored += 1
            if packet.is_discard:  # an edit list leaves it out
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
    # Half is enough, because the headers of JHMDB promise a fifth more than was ever stored.
    if num_stored < num_promised / 2:
        raise VideoFaultError(f"the header promises {num_promised} frames, {num_stored} are there")
    times.sort()
    if times[-1] - times[0] > _MAX_GAP_S * len(times):
        raise VideoFaultError(
            f"the clock is broken: {len(times)} frames in {float(times[-1] - times[0]):.0f} s"
        )
    fps = _frame_rate(times, header_fps)
    worst = max(abs((time - times[0]) * fps - index) for index, time in enumerate(times))
    span_s = times[-1] - times[0]
    return Probe(num_packets=len(times), fps=fps, is_constant=worst <= 1, span_s=span_s)


def _frame_rate(times: list[Fraction], header_fps: Fraction | None) -> Fraction:
    """The header's rate if it is within 10 % of the mean rate, else about the mean rate."""
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
            # Dropped frames make 25 fps look like 25.4, so a whole number is the better guess.
            fps = nearest if abs(nearest / mean - 1) <= Fraction(1, 50) else mean
    fps = min(max(fps, Fraction(1, 10)), Fraction(_MAX_FPS))
    # Denominators up to 1001 are enough for all broadcast rates and fit every container.
    return fps.limit_denominator(1001)
