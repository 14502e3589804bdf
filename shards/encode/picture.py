"""Decoded frames -> upright, progressive, square-pixel 4:2:0 frames at a constant rate.

The work is libavfilter's. Where the source's rate is constant the frames are simply counted
(every decoded frame comes out exactly once, even with the disordered timestamps of packed
B-frames); only a variable rate goes through the `fps` filter, which repeats and drops frames.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shards.encode.encoders import ENCODERS
from shards.encode.geometry import MAX_SIDE_PX, fit, upright_filters
from shards.encode.probe import Probe, VideoFaultError
from shards.encode.recipe import MIN_SIDE_PX, Recipe

_RGB_MATRIX = "bt709"


def filtered(
    frames: Iterator[VideoFrame], stream: VideoStream, facts: Probe, recipe: Recipe
) -> Iterator[VideoFrame]:
    """Yields the frames to be encoded; frame i is to be shown at i / facts.fps.

    Raises:
        VideoFaultError: the picture changes size, or is too elongated.
    """
    graph, size, last_pts = None, (0, 0, ""), -1
    for index, frame in enumerate(frames):
        if graph is None:
            graph = _build_graph(frame, stream, facts, recipe)
            size = (frame.height, frame.width, frame.format.name)
        elif size != (frame.height, frame.width, frame.format.name):
            raise VideoFaultError(f"the picture size or format changes at frame {index}")
        if facts.is_constant:
            frame.pts = index
        else:
            # The fps filter needs ascending times; broken ones follow on their predecessor's heels.
            last_pts = max(last_pts + 1, frame.pts if frame.pts is not None else 0)
            frame.pts = last_pts
        graph.push(frame)
        yield from _pull(graph)
    if graph is not None:
        graph.push(None)
        yield from _pull(graph)


def _pull(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, VideoFrame)
        yield frame


def _build_graph(frame: VideoFrame, stream: VideoStream, facts: Probe, recipe: Recipe) -> Graph:
    time_base = 1 / facts.fps if facts.is_constant else frame.time_base
    turns = upright_filters(_display_matrix(frame))
    turned = any(name == "transpose" for name, _ in turns)
    height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
    aspect = _pixel_aspect(stream)
    size = fit(
        height,
        width,
        1 / aspect if turned else aspect,
        recipe.short_side_px,
        MIN_SIDE_PX[recipe.codec],
    )
    if max(size.height, size.width) > MAX_SIDE_PX:
        raise VideoFaultError(
            f"pictures of {width}x{height} px are too elongated: with short side"
            f" {min(size.height, size.width)} the long one exceeds {MAX_SIDE_PX}"
        )
    # bitexact: the same pixels on every CPU.
    scale = f"{size.scaled_width}:{size.scaled_height}:flags=bicubic+accurate_rnd+bitexact"
    encoder = ENCODERS[recipe.codec]
    scale += f":out_range={'pc' if encoder.is_full_range else 'tv'}"
    if recipe.codec == "mjpeg":
        scale += ":out_color_matrix=bt601"  # a JPEG is, and has no tag to say otherwise
    elif frame.format.is_rgb:
        scale += f":out_color_matrix={_RGB_MATRIX}"
    steps = [*turns, ("scale", scale), ("format", encoder.pix_fmt)]
    if frame.interlaced_frame:
        # One picture out for each picture in; before anything else mixes their lines.
        steps.insert(0, ("bwdif", "mode=send_frame:deint=interlaced"))
    steps += [("crop", f"{size.width}:{size.height}"), ("setsar", "1")]
    if not facts.is_constant:
        # Rate first: dropped frames need not be scaled.
        steps = [("setpts", "PTS-STARTPTS"), ("fps", f"fps={facts.fps}"), *steps]
    graph = Graph()
    graph.threads = 1
    source = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        f":time_base={time_base}:pixel_aspect={aspect}"
        f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
    )
    nodes = [graph.add("buffer", source)]
    nodes += [graph.add(name, arguments or None) for name, arguments in steps]
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _pixel_aspect(stream: VideoStream) -> Fraction:
    aspect = stream.sample_aspect_ratio
    # Beyond 4:1 it is a broken header, not an anamorphic picture.
    return aspect if aspect and Fraction(1, 4) <= aspect <= 4 else Fraction(1)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) as in `upright_filters`; the identity where the file says nothing."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    # Nine 16.16 fixed-point numbers, rows of (a, b, u), (c, d, v), (x, y, w).
    a, b, _, c, d = np.frombuffer(memoryview(data), dtype="<i4")[:5].tolist()
    return (a, b, c, d)
