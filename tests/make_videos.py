"""Makes small videos for tests; the same arguments give the same bytes."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

Paint = Callable[[int], np.ndarray]


def moving_pattern(num_frames: int, height: int, width: int, seed: int = 0) -> Paint:
    """A smooth texture that drifts, and a bright square that circles: frame index -> RGB uint8."""
    rng = np.random.default_rng([seed, height, width])
    phase, speed = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.05, 0.3, 3)
    channel = np.arange(3)[:, None]
    across = np.arange(width) / (7 + channel)
    down = np.arange(height) / (11 - channel) + phase[:, None]
    sin_cos = 70 * np.stack([np.sin(across), np.cos(across)], axis=1)
    side = max(2, min(height, width) // 6)

    def paint(index: int) -> np.ndarray:
        # 110 + 70 sin(across + down), from the sines of both: a sine for each pixel takes long.
        angle = down + speed[:, None] * index
        planes = np.stack([np.cos(angle), np.sin(angle)], axis=2) @ sin_cos
        image = np.stack(np.uint8(110 + planes), axis=-1)
        turn = 2 * np.pi * index / max(num_frames, 1) + phase[0]
        top = int((height - side) * (0.5 + 0.45 * np.sin(turn)))
        left = int((width - side) * (0.5 + 0.45 * np.cos(turn)))
        image[top : top + side, left : left + side] = 250
        return image

    return paint


def make_video(
    path: Path,
    *,
    num_frames: int = 40,
    height: int = 96,
    width: int = 128,
    fps: int | Fraction = 25,
    codec: str = "libx264",
    seed: int = 0,
    paint: Paint | None = None,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[float] | None = None,
    rotation: int | None = None,
) -> Path:
    """Writes a video and returns its path; the container follows from the file's extension.

    Args:
        path: The file; its folder is made if missing.
        num_frames: Frames to write.
        height: Pixels.
        width: Pixels.
        fps: Frames per second.
        codec: An encoder of FFmpeg.
        seed: The seed of the default picture.
        paint: Frame index -> RGB uint8 (height, width, 3); default: `moving_pattern`.
        pix_fmt: The stored pixel format.
        options: Options of the encoder.
        times: The time of each frame in seconds (variable rate); default: i / fps.
        rotation: A display rotation in degrees, anticlockwise, which is stored in the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    paint = paint or moving_pattern(num_frames, height, width, seed)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        quick = {"preset": "veryfast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=Fraction(fps), options=quick | (options or {}))
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(paint(index), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_two_streams(
    path: Path,
    *,
    paint: Paint,
    num_frames: int,
    height: int,
    width: int,
    codec: str,
    defaults: Sequence[bool] = (False, True),
) -> Path:
    """Writes a black preview and, behind it, a video of the same size; returns their path.

    `defaults` says which of the two the header marks as the default. The others as in `make_video`.
    """
    black = np.zeros((height, width, 3), np.uint8)
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=25, options={"g": "12"}) for _ in defaults]
        for stream, is_default in zip(streams, defaults, strict=True):
            stream.height, stream.width = height, width
            stream.disposition = Disposition.default if is_default else Disposition(0)
        for index in range(num_frames):
            for stream, picture in zip(streams, (black, paint(index)), strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path
