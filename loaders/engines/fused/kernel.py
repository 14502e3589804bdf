"""Makes views from planes and a plan, in compiled code (Numba).

Each plane of a frame is resampled with a separable antialiased bilinear filter (the triangle filter
of torchvision's and Pillow's `antialias`) in 16-bit integers, 16 output rows at a time. The
vertical pass runs along contiguous source rows. The horizontal pass runs along the 16 rows, which
lie side by side. Then each pixel goes through one matrix to RGB, one colour map, and a table for
gamma if there is gamma, and is stored in the output's type. No full-size RGB or float picture ever
exists, nothing outside the crop is read, and chroma is filtered at its own resolution. The price of
speed is that the inner loops are hand-written vector code (`simd`), and their callers use
addresses.
"""

import time
from collections.abc import Iterable

import numba
import numpy as np

from loaders.engines.fused.resampling import (
    CHROMA_X,
    CHROMA_Y,
    LOW,
    LUMA_X,
    LUMA_Y,
    TAPS,
    WIDTH,
    Filters,
    padded,
)
from loaders.engines.fused.simd import (
    COLUMNS,
    LANES,
    LINE,
    address,
    byte_pointer,
    color_columns,
    mix_rows,
    stream_line,
    stream_transpose,
    transpose,
    widen_row,
)
from loaders.engines.fused.values import Values
from loaders.yuv import FRAME_COLORS
from shards.decode.planes import Planes

_BYTE_STEP = 256  # of the 16-bit sums
_ANY_BYTE = (0, 255)
_IDENTITY = np.eye(3, 4, dtype=np.float32)

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")
# Passing an array to a function counts a reference, and the counter waits for everything that was
# streamed to memory. So these are inlined, and nothing is called within a frame.
_inlined = numba.njit(nogil=True, error_model="numpy", inline="always")


def render_turns(
    turns: Iterable[tuple[int, Planes]],
    place: np.ndarray,
    filters: Filters,
    values: Values,
    erases: np.ndarray,
    out: list[np.ndarray],
) -> float:
    """Writes all V views of a video while its frames are decoded.

    Args:
        turns: (k, planes of some needed frames), of which the first is needed frame k.
        place: (V, T) int64, the needed frame that each frame of a view shows.
        filters: How the views are resized.
        values: Their colour maps, limits and gamma tables.
        erases: (V, E, 4), see `render_views`.
        out: One (v, T, S, S, 3) array for each group of v views, V views in all.

    Returns:
        The seconds that it took without the decoding.
    """
    groups, first, seconds = [], 0, 0.0
    for group in out:
        views = slice(first, first + len(group))
        first = views.stop
        rest = (
            Filters(*(part[views] for part in filters)),
            values.maps[views],
            values.limits[views],
            values.curves,
            values.curve_of[views],
            erases[views],
            values.black,
            # Numba has no float16, so the kernel writes its bits.
            group.view(np.uint16) if group.dtype == np.float16 else group,
        )
        groups.append((place[views], rest))
    for k, planes in turns:
        began_s = time.perf_counter()
        color = FRAME_COLORS[planes.colors]
        where = planes.addresses, planes.strides, color.luma_range, color.to_rgb
        for shown, rest in groups:
            render_views(*where, shown - k, *rest)
        seconds += time.perf_counter() - began_s
    return seconds


@_jit  # type: ignore[untyped-decorator]
def render_views(  # type: ignore[no-untyped-def]
    addresses,
    strides,
    luma_range,
    to_rgb,
    frames,
    filters,
    colors,
    limits,
    curves,
    curve_of,
    erases,
    black,
    out,
):
    """Writes V views of T frames.

    The function is long because nothing may be called within a frame (see `_inlined`).

    Args:
        addresses: (N, 3) int64, where the Y, U and V planes of N decoded frames lie in memory.
        strides: (N, 3) int64, bytes from one row of a plane to the next.
        luma_range: (black, white) uint8: luma outside is clipped before it is resampled. RGB cannot
            hold such values, and resampling would spread them to their neighbours.
        to_rgb: (3, 4) float32, (Y, U, V) in [0, 255] to RGB in [0, 1].
        frames: (V, T) int64 indices into the N frames; an index outside [0, N) is not rendered.
        filters: The `loaders.engines.fused.resampling.Filters` of the V views.
        colors: (V, 3, 4) float32, RGB to RGB.
        limits: (V, 3, 2) float32, the least and the greatest value of each channel after `colors`.
        curves: (C, 1 or 3, GAMMA_LEVELS) tables that apply after the clip, see
            `loaders.engines.fused.values`.
        curve_of: (V,) int64, each view's row of `curves`; -1 for none.
        erases: (V, E, 4) int64 top, left, height, width in output pixels, set to `black`.
        black: (3,) in the type of `out`.
        out: (V, T, S, S, 3), contiguous: uint8, float32, or uint16 for the bits of float16.
    """
    size = out.shape[2]
    # Pixels move in blocks of up to 16 x 32, so the scratch is that much wider than the crop.
    width = padded(_widest(filters.spans)) + LANES
    source = np.empty((_most_rows(size, filters), width), np.uint16)
    columns = np.empty((3, width, LANES), np.uint16)
    pixels = np.empty((3 * padded(size), LANES), out.dtype)
    levels = np.empty((3 * padded(size), LANES), np.int16)
    block = np.empty(LANES * 3 * size + LANES, out.dtype)
    offsets = np.empty(LANES, np.int64)
    # If true, each row of a 16 x 16 block is one cache line, and blocks go straight to `out`.
    fills_lines = out.itemsize == LINE // LANES and size % LANES == 0 and address(out) % LINE == 0
    sums_to_rgb = to_rgb.copy()
    for i in range(3):  # loops, because Numba takes a second to compile a slice
        for k in range(3):
            sums_to_rgb[i, k] /= np.float32(_BYTE_STEP)
    # Frames are the outer loop: a frame is still in the cache when the next view needs it.
    for n in range(len(addresses)):
        for v in range(out.shape[0]):
            has_color = not _is_identity(colors, v)
            is_grey = curve_of[v] >= 0 and _is_grey(colors, limits, v)
            for t in range(out.shape[1]):
                if frames[v, t] != n:
                    continue
                target = address(out) + v * out.strides[0] + t * out.strides[1]
                for row in range(0, size, LANES):
                    for p in range(3):
                        _resample_rows(
                            addresses[n, p],
                            strides[n, p],
                            luma_range if p == 0 else _ANY_BYTE,
                            filters,
                            v,
                            LUMA_Y if p == 0 else CHROMA_Y,
                            row,
                            offsets,
                            source,
                            address(columns) + p * columns.strides[0],
                        )
                    if curve_of[v] < 0:
                        _color(columns, filters, v, sums_to_rgb, colors, limits, has_color, pixels)
                    else:
                        _color(columns, filters, v, sums_to_rgb, colors, limits, has_color, levels)
                        _look_up(levels, curves, curve_of[v], is_grey, pixels)
                    _erase(erases, v, row, black, pixels)
                    place = target + row * out.strides[2]
                    if fills_lines:
                        _stream_rows(pixels, out.strides[2], place)
                    else:
                        _lay_out(pixels, 3 * size, block)
                        _stream(block, min(LANES, size - row) * out.strides[2], place)


@_jit  # type: ignore[untyped-decorator]
def _widest(spans):  # type: ignore[no-untyped-def]
    """The largest number of source columns, of all views and planes."""
    widest = 0
    for v in range(len(spans)):
        for axis in range(spans.shape[1]):
            widest = max(widest, spans[v, axis, WIDTH])
    return widest


@_jit  # type: ignore[untyped-decorator]
def _most_rows(size, filters):  # type: ignore[no-untyped-def]
    """The largest number of source rows that 16 output rows need."""
    most = 0
    for v in range(len(filters.first)):
        for axis in (LUMA_Y, CHROMA_Y):
            for row in range(0, size, LANES):
                first = filters.first[v, axis, row : row + LANES]
                most = max(most, first[-1] - first[0] + filters.spans[v, axis, TAPS])
    return most


@_inlined  # type: ignore[untyped-decorator]
def _resample_rows(  # type: ignore[no-untyped-def]
    plane, stride, value_range, filters, v, axis, row, offsets, source, out
):
    """Writes 16 output rows of a plane, as wide as the crop, to columns of 16 uint16 at `out`."""
    first, weights, spans = filters
    begin, taps = first[v, axis, row], spans[v, axis, TAPS]
    num_rows = first[v, axis, row + LANES - 1] - begin + taps
    width = spans[v, axis + 1, WIDTH]
    corner = plane + (spans[v, axis, LOW] + begin) * stride + spans[v, axis + 1, LOW]
    low, high = int(value_range[0]), int(value_range[1])
    for y in range(num_rows):
        into = address(source) + y * source.strides[0]
        widen_row(corner + y * stride, low, high, width, into)
    for r in range(LANES):
        offsets[r] = (first[v, axis, row + r] - begin) * source.strides[0]
    weights_at = (
        address(weights)
        + v * weights.strides[0]
        + axis * weights.strides[1]
        + row // LANES * weights.strides[2]
    )
    for x in range(0, width, 2 * LANES):
        mix_rows(
            address(source) + x * source.strides[1],
            source.strides[0],
            address(offsets),
            weights_at,
            taps,
            out + x * LANES * source.strides[1],
        )


@_inlined  # type: ignore[untyped-decorator]
def _color(  # type: ignore[no-untyped-def]
    columns, filters, v, to_rgb, colors, limits, has_color, out
):
    """Writes 16 rows of pixels to `out` (3 R, 16): R, G and B of one column, then of the next."""
    first, weights, spans = filters
    first_at = address(first) + v * first.strides[0]
    weights_at = address(weights) + v * weights.strides[0]
    for j in range(0, out.shape[0] // 3, COLUMNS):
        first_j = first_at + j * first.strides[2]
        weights_j = weights_at + j // LANES * weights.strides[2] + j % LANES * weights.strides[4]
        color_columns(
            address(columns),
            columns.strides[0],
            first_j + LUMA_X * first.strides[1],
            weights_j + LUMA_X * weights.strides[1],
            spans[v, LUMA_X, TAPS],
            first_j + CHROMA_X * first.strides[1],
            weights_j + CHROMA_X * weights.strides[1],
            spans[v, CHROMA_X, TAPS],
            address(to_rgb),
            address(colors) + v * colors.strides[0],
            address(limits) + v * limits.strides[0],
            int(has_color),
            address(out) + 3 * j * out.strides[0],
            out[0, 0],
        )


@_inlined  # type: ignore[untyped-decorator]
def _look_up(levels, curves, c, is_grey, out):  # type: ignore[no-untyped-def]
    """Writes the curve's values to `out`; rows are R, G, B, R, ..."""
    # Only grey views have gamma. If one of their channels was dropped, the three differ.
    if is_grey and curves.shape[1] == 1:
        for i in range(0, levels.shape[0], 3):
            for k in range(LANES):
                value = curves[c, 0, levels[i, k]]
                out[i, k], out[i + 1, k], out[i + 2, k] = value, value, value
        return
    for i in range(levels.shape[0]):
        channel = i % curves.shape[1]
        for k in range(LANES):
            out[i, k] = curves[c, channel, levels[i, k]]


@_inlined  # type: ignore[untyped-decorator]
def _lay_out(pixels, width, block):  # type: ignore[no-untyped-def]
    """Writes `pixels` (>= width, 16) to `block`, as 16 rows of `width`, one after the other."""
    # Values past the end of a row fall on the start of the next row, which is written later.
    for x in range(padded(width) - LANES, -1, -LANES):
        transpose(
            address(pixels) + x * pixels.strides[0],
            address(block) + x * block.strides[0],
            width * block.strides[0],
            block[0],
        )


@_inlined  # type: ignore[untyped-decorator]
def _stream_rows(pixels, stride, target):  # type: ignore[no-untyped-def]
    """Writes `pixels` (W, 16) as 16 rows of W values `stride` bytes apart, past the caches."""
    for x in range(0, pixels.shape[0], LANES):
        source = address(pixels) + x * pixels.strides[0]
        stream_transpose(source, target + x * pixels.itemsize, stride, pixels[0, 0])


@_inlined  # type: ignore[untyped-decorator]
def _erase(erases, v, first_row, black, pixels):  # type: ignore[no-untyped-def]
    """Makes the pixels in the rectangles black, in 16 rows of pixels (3 R, 16)."""
    for e in range(erases.shape[1]):
        top, height = erases[v, e, 0] - first_row, erases[v, e, 2]
        left, width = erases[v, e, 1], erases[v, e, 3]
        for i in range(3 * left, 3 * (left + width)):
            for row in range(max(top, 0), min(top + height, LANES)):
                pixels[i, row] = black[i % 3]


@_inlined  # type: ignore[untyped-decorator]
def _stream(block, num_bytes, target):  # type: ignore[no-untyped-def]
    """Copies the first bytes of `block` to an address, past the caches: nothing reads them soon."""
    source = address(block)
    begin = min(-target % LINE, num_bytes)
    end = begin + (num_bytes - begin) // LINE * LINE
    for i in range(begin, end, LINE):
        stream_line(source + i, target + i)
    one, other = byte_pointer(source), byte_pointer(target)
    for i in range(begin):
        other[i] = one[i]
    for i in range(end, num_bytes):
        other[i] = one[i]


@_jit  # type: ignore[untyped-decorator]
def _is_grey(colors, limits, v):  # type: ignore[no-untyped-def]
    """Whether R, G and B become the same."""
    for i in range(1, 3):
        for k in range(4):
            if colors[v, i, k] != colors[v, 0, k]:
                return False
        for k in range(2):
            if limits[v, i, k] != limits[v, 0, k]:
                return False
    return True


@_jit  # type: ignore[untyped-decorator]
def _is_identity(colors, v):  # type: ignore[no-untyped-def]
    for i in range(3):
        for k in range(4):
            if colors[v, i, k] != _IDENTITY[i, k]:
                return False
    return True
