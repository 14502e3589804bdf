"""Decoded frames -> upright, progressive, square-pixel 4:2:0 frames at a constant rate.

libavfilter does the work. If the rate of the source is constant and stays as it is, the frames are
counted: every decoded frame comes out exactly once, even with the disordered timestamps of packed
B-frames. Otherwise FFmpeg's `fps` filter repeats and drops frames: if frame j of the source is
shown at t_j seconds, then frame i of the result is the last source frame with
floor(t_j * fps + 1/2) <= i.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shards.encode.geometry import MAX_SIDE_PX, Fit, PictureShape, fit, upright_filters
from shards.encode.probe import Probe
from shards.encode.recipe import Recipe
from shards.encode.video_stream import VideoFaultError

# For sources in RGB, which have no matrix.
_RGB_MATRIX = "bt709"


def filtered(
    frames: Iterator[VideoFrame],
    stream: VideoStream,
    probed: Probe,
    recipe: Recipe,
    is_wanted: Callable[[int], bool] = lambda number: True,
) -> Iterator[VideoFrame]:
    """Yields the frames to encode; frame i is shown at i / probed.fps.

    Args:
        frames: What the decoder gives.
        stream: The stream of the frames.
        probed: What the packets say.
        recipe: How they will be stored.
        is_wanted: Frame number -> whether the caller needs the frame. If the rate is constant,
            other frames may be left out, and `counted_number` gives the number of a frame.

    Raises:
        VideoFaultError: The picture changes its size or pixel format, or is too elongated.
    """
    graph, size, last_pts, needs_all = None, (0, 0, ""), -1, False
    for index, frame in enumerate(frames):
        if graph is None:
            graph = _build_graph(frame, stream, probed, recipe)
            size = (frame.height, frame.width, frame.format.name)
            # Deinterlacing looks at the frames beside a frame.
            needs_all = frame.interlaced_frame
        elif size != (frame.height, frame.width, frame.format.name):
            raise VideoFaultError(f"the picture size or format changes at frame {index}")
        if probed.is_constant:
            if not needs_all and not is_wanted(index):
                continue
            frame.pts = index
        elif probed.counted_fps is not None:
            frame.pts, frame.duration = index, 1
        else:
            # The fps filter needs ascending times. A broken time becomes the one before it plus 1.
            last_pts = max(last_pts + 1, frame.pts if frame.pts is not None else 0)
            frame.pts = last_pts
        graph.push(frame)
        yield from _pull(graph)
    if graph is not None:
        graph.push(None)
        yield from _pull(graph)


def counted_number(frame: VideoFrame, probed: Probe) -> int:
    """The number of a frame that `filtered` yields, for a source with a constant rate."""
    assert frame.pts is not None
    assert frame.time_base is not None
    return round(frame.pts * frame.time_base * probed.fps)


def _pull(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, VideoFrame)
        yield frame


def _build_graph(frame: VideoFrame, stream: VideoStream, probed: Probe, recipe: Recipe) -> Graph:
    """The filters for frames like this one, ready for use."""
    aspect = _pixel_aspect(stream)
    counted_fps = probed.fps if probed.is_constant else probed.counted_fps
    time_base = 1 / counted_fps if counted_fps else frame.time_base
    graph = Graph()
    graph.threads = 1
    source = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        f":time_base={time_base}:pixel_aspect={aspect}"
        f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
    )
    nodes = [graph.add("buffer", source)]
    for name, arguments in _steps(frame, stream, probed, recipe):
        nodes.append(graph.add(name, arguments or None))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _steps(
    frame: VideoFrame, stream: VideoStream, probed: Probe, recipe: Recipe
) -> list[tuple[str, str]]:
    """(filter, its arguments) in order: rate, deinterlacing, turning, scaling, cropping."""
    size = _upright_fit(frame, stream, recipe)
    steps = []
    if not probed.is_constant:
        # The rate comes first, because dropped frames need not be scaled.
        steps += [("setpts", "PTS-STARTPTS"), ("fps", f"fps={probed.fps}")]
    if frame.interlaced_frame:
        # It comes before the steps that mix lines, and gives one picture for each picture.
        steps.append(("bwdif", "mode=send_frame:deint=interlaced"))
    return [
        *steps,
        *size.turns,
        ("scale", _scaling(frame, size, recipe)),
        ("format", recipe.codec_type.pixel_format),
        ("crop", f"{size.width}:{size.height}:{size.left}:{size.top}"),
        ("setsar", "1"),
    ]


def is_plain(frame: VideoFrame, stream: VideoStream, probed: Probe) -> bool:
    """Whether such frames are upright and progressive, with square pixels and a constant rate."""
    shape = picture_shape(frame, stream)
    return (
        probed.is_constant
        and not frame.interlaced_frame
        and not upright_filters(shape.matrix)
        and shape.pixel_aspect == 1
    )


def picture_shape(frame: VideoFrame, stream: VideoStream) -> PictureShape:
    """The size of a decoded frame, and how it is shown."""
    return PictureShape(
        height=frame.height,
        width=frame.width,
        pixel_aspect=_pixel_aspect(stream),
        matrix=_display_matrix(frame),
    )


def _upright_fit(frame: VideoFrame, stream: VideoStream, recipe: Recipe) -> Fit:
    assert recipe.short_side_px is not None  # only "copy" has none, and it uses no filters
    shape = picture_shape(frame, stream)
    size = fit(shape, recipe.short_side_px, recipe.codec_type.min_side_px)
    if max(size.height, size.width) > MAX_SIDE_PX:
        raise VideoFaultError(
            f"pictures of {shape.width}x{shape.height} px are too elongated: with short side"
            f" {min(size.height, size.width)} the long one exceeds {MAX_SIDE_PX}"
        )
    return size


def _scaling(frame: VideoFrame, size: Fit, recipe: Recipe) -> str:
    codec = recipe.codec_type
    # bitexact gives the same pixels on every CPU.
    scale = f"{size.scaled_width}:{size.scaled_height}:flags=bicubic+accurate_rnd+bitexact"
    scale += f":out_range={'pc' if codec.is_full_range else 'tv'}"
    # Sources keep their matrix if they have one and the codec has a tag for it.
    matrix = codec.only_matrix or (_RGB_MATRIX if frame.format.is_rgb else "")
    return scale + (f":out_color_matrix={matrix}" if matrix else "")


def _pixel_aspect(stream: VideoStream) -> Fraction:
    aspect = stream.sample_aspect_ratio
    # Beyond 4:1 the header is broken; no real video has such pixels.
    return aspect if aspect and Fraction(1, 4) <= aspect <= 4 else Fraction(1)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) as in `PictureShape`; the identity if the file has no matrix."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    # Nine 16.16 fixed-point numbers, rows of (a, b, u), (c, d, v), (x, y, w).
    a, b, _, c, d = np.frombuffer(memoryview(data), dtype="<i4")[:5].tolist()
    return (a, b, c, d)
