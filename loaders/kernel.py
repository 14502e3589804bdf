"""Planes and plan rows to views, in compiled code (Numba).

Per frame: each plane is resampled with a separable antialiased bilinear filter (the triangle filter
of torchvision's and Pillow's `antialias`), 16 output rows at a time: the vertical pass runs along
contiguous source rows, the horizontal one across the 16 rows laid side by side. Then each pixel
takes one matrix to RGB, one colour map, gamma where drawn, and is stored in the output's type. No
full-size RGB or float picture ever exists, nothing outside the crop is read, and chroma is filtered
at its own resolution. The price of speed: loops are written one a function, which is what LLVM
vectorises reliably, and what it does not is in `loaders.simd`.
"""

import numba
import numpy as np

from loaders.simd import (
    LANES,
    byte_pointer,
    color_pixels,
    transpose,
    weighted_sum,
)

# Gamma is looked up: 4096 levels are 16 per step of an 8-bit source.
_GAMMA_LEVELS = 4096
_BLOCK = 8  # side of a transposed block
_ANY_BYTE = (np.uint8(0), np.uint8(255))
_IDENTITY = np.eye(3, 4, dtype=np.float32)
_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@_jit  # type: ignore[untyped-decorator]
def render_views(  # type: ignore[no-untyped-def]
    addresses,
    strides,
    luma_size,
    luma_range,
    to_rgb,
    frames,
    crops,
    flips,
    colors,
    gammas,
    erases,
    out,
):
    """Writes V views of T frames.

    Args:
        addresses: (N, 3) int64, where the Y, U and V planes of N decoded frames lie in memory.
        strides: (N, 3) int64, bytes from one row of a plane to the next.
        luma_size: (height, width) of the Y planes; U and V have half of it, rounded up.
        luma_range: (black, white) uint8: luma outside is clipped before it is resampled. RGB could
            not hold it, and resampled first it would bleed into its neighbours.
        to_rgb: (3, 4) float32, (Y, U, V) in [0, 255] to RGB in [0, 1].
        frames: (V, T) int64 indices into the N frames; what lies outside [0, N) is not rendered.
        crops: (V, 4) int64 top, left, height, width in luma pixels.
        flips: (V,) bool.
        colors: (V, 3, 4) float32, RGB to RGB; the result is clipped to [0, 1].
        gammas: (V,) float32 exponents after the clip; 1 for none.
        erases: (V, E, 4) int64 top, left, height, width in output pixels, set to 0.
        out: (V, T, S, S, 3): uint8, float32 in [0, 1], or uint16 for the bits of float16.
    """
    size = out.shape[2]
    # Blocks are transposed whole, so the scratch is a block wider than any row.
    columns = max(luma_size[1], size) + LANES
    rows = np.empty((LANES, columns), np.float32)
    side_by_side = np.empty((2, columns, LANES), np.float32)
    yuv = np.empty((3, LANES, columns), np.float32)
    gamma = np.empty(_GAMMA_LEVELS, np.float32)
    for v in range(out.shape[0]):
        if not _any_between(frames[v], len(addresses)):
            continue
        luma_axes, chroma_axes = _axes(size, crops[v], luma_size, flips[v])
        if gammas[v] != 1.0:
            _fill_gamma(gammas[v], gamma)
        has_color = not _is_identity(colors[v])
        for t in range(out.shape[1]):
            n = frames[v, t]
            if not 0 <= n < len(addresses):
                continue
            for row in range(0, size, LANES):
                for p in range(3):
                    _resample(
                        addresses[n, p],
                        strides[n, p],
                        luma_axes if p == 0 else chroma_axes,
                        luma_range if p == 0 else _ANY_BYTE,
                        row,
                        rows,
                        side_by_side,
                        yuv[p],
                    )
                block = out[v, t, row : row + LANES]
                if gammas[v] != 1.0:
                    _store_with_gamma(yuv, to_rgb, colors[v], gamma, block)
                else:
                    _store(yuv, to_rgb, colors[v], has_color, block)
            for e in range(erases.shape[1]):
                top, left, height, width = erases[v, e]
                for i in range(top, top + height):
                    for j in range(left, left + width):
                        for c in range(3):
                            out[v, t, i, j, c] = 0


@_jit  # type: ignore[untyped-decorator]
def _axes(size, crop, luma_size, flip):  # type: ignore[no-untyped-def]
    """The (y, x) filters of luma, and of chroma."""
    # One type of argument each, so that the filter is compiled once.
    top, left, height, width = float(crop[0]), float(crop[1]), float(crop[2]), float(crop[3])
    upright = np.bool_(False)
    luma = (
        axis_filter(size, top, height, luma_size[0], upright),
        axis_filter(size, left, width, luma_size[1], flip),
    )
    # Chroma samples sit on the left luma sample of their pair (MPEG-2 and H.264's default siting),
    # a quarter of a chroma sample off its centre; vertically they are centred.
    chroma = (
        axis_filter(size, top / 2, height / 2, (luma_size[0] + 1) // 2, upright),
        axis_filter(size, left / 2 + 0.25, width / 2, (luma_size[1] + 1) // 2, flip),
    )
    return luma, chroma


@_jit  # type: ignore[untyped-decorator]
def axis_filter(out_size, start, extent, in_size, flip):  # type: ignore[no-untyped-def]
    """Triangle filter that resizes [start, start + extent) of an axis to `out_size`.

    Same formula as Pillow's and torchvision's antialiased bilinear: the filter widens with the
    scale, and never reads outside the crop.

    Returns:
        first: (out_size,) int64, the first source index of each output.
        weights: (out_size, taps or taps + 1) float32, an even number; rows sum to 1.
        taps: How many weights count; the rest is padding.
        low: The least source index read.
        width: Source indices read, from `low` on.
    """
    scale = extent / out_size
    support = max(scale, 1.0)
    begin_crop, end_crop = int(np.floor(start)), min(int(np.ceil(start + extent)), in_size)
    taps = min(int(np.ceil(2 * support)), in_size)
    first = np.empty(out_size, np.int64)
    weights = np.zeros((out_size, taps + taps % 2), np.float32)
    for i in range(out_size):
        row = out_size - 1 - i if flip else i
        centre = start + (i + 0.5) * scale
        begin = min(max(int(np.floor(centre - support + 0.5)), begin_crop), end_crop - 1)
        end = min(max(int(np.floor(centre + support + 0.5)), begin + 1), end_crop)
        if end - begin > taps:
            # Rounding can add a sample whose weight is nought, for which there is no room.
            if centre - begin > end - centre:
                begin += 1
            else:
                end -= 1
        total = 0.0
        for source in range(begin, end):
            total += max(1.0 - abs((source + 0.5 - centre) / support), 0.0)
        first[row] = min(begin, in_size - taps)
        for source in range(begin, end):
            weight = max(1.0 - abs((source + 0.5 - centre) / support), 0.0)
            # A crop thinner than a pixel can fall between samples: take the nearest one.
            weights[row, source - first[row]] = weight / total if total > 0 else 1.0
    low, high = first[0], first[0]
    for i in range(out_size):
        low, high = min(low, first[i]), max(high, first[i])
    return first, weights, taps, low, high + taps - low


@_jit  # type: ignore[untyped-decorator]
def _resample(address, stride, axes, value_range, first_row, rows, side_by_side, out):  # type: ignore[no-untyped-def]
    """16 output rows of a plane, from `first_row` on, to `out` (16, >= S) float32."""
    (first_y, weights_y, taps_y, _, _), (first_x, weights_x, taps_x, left, width) = axes
    low, high = value_range
    size = first_x.shape[0]
    for r in range(LANES):
        i = min(first_row + r, size - 1)
        row = rows[r, :width]
        for k in range(0, taps_y, 2):
            one = address + (first_y[i] + k) * stride + left
            # The padding's weight is 0, but its row may not exist.
            other = one + stride if k + 1 < taps_y else one
            weight, other_weight = weights_y[i, k], weights_y[i, k + 1]
            if k == 0:
                _set_two(
                    byte_pointer(one), byte_pointer(other), weight, other_weight, low, high, row
                )
            else:
                _add_two(
                    byte_pointer(one), byte_pointer(other), weight, other_weight, low, high, row
                )
    before, after = side_by_side
    _transpose_all(rows, before, width)
    source, target, weights = before.ctypes.data, after.ctypes.data, weights_x.ctypes.data
    for j in range(size):
        column = source + (first_x[j] - left) * before.strides[0]
        weighted_sum(column, weights + j * weights_x.strides[0], taps_x, target)
        target += after.strides[0]
    _transpose_all_back(after, out, size)


@_jit  # type: ignore[untyped-decorator]
def _set_two(one, other, weight, other_weight, low, high, out):  # type: ignore[no-untyped-def]
    for x in range(out.shape[0]):
        a = np.float32(min(max(one[x], low), high))
        b = np.float32(min(max(other[x], low), high))
        out[x] = weight * a + other_weight * b


@_jit  # type: ignore[untyped-decorator]
def _add_two(one, other, weight, other_weight, low, high, out):  # type: ignore[no-untyped-def]
    for x in range(out.shape[0]):
        a = np.float32(min(max(one[x], low), high))
        b = np.float32(min(max(other[x], low), high))
        out[x] += weight * a + other_weight * b


@_jit  # type: ignore[untyped-decorator]
def _transpose_all(rows, columns, width):  # type: ignore[no-untyped-def]
    """`rows` (16, >= width) to `columns` (>= width, 16)."""
    for x in range(0, width, _BLOCK):
        for y in range(0, LANES, _BLOCK):
            transpose(
                rows.ctypes.data + y * rows.strides[0] + x * 4,
                rows.strides[0],
                columns.ctypes.data + x * columns.strides[0] + y * 4,
                columns.strides[0],
            )


@_jit  # type: ignore[untyped-decorator]
def _transpose_all_back(columns, rows, width):  # type: ignore[no-untyped-def]
    for x in range(0, width, _BLOCK):
        for y in range(0, LANES, _BLOCK):
            transpose(
                columns.ctypes.data + x * columns.strides[0] + y * 4,
                columns.strides[0],
                rows.ctypes.data + y * rows.strides[0] + x * 4,
                rows.strides[0],
            )


@_jit  # type: ignore[untyped-decorator]
def _store(yuv, to_rgb, color, has_color, out):  # type: ignore[no-untyped-def]
    """(3, 16, >= S) Y, U, V in [0, 255] to `out` (R <= 16, S, 3)."""
    num_rows, size, _ = out.shape
    whole = size - size % LANES
    plane, pixel = yuv.strides[0], out.strides[1]
    to_rgb_at, color_at, with_color = to_rgb.ctypes.data, color.ctypes.data, int(has_color)
    rest = np.empty((LANES, 3), out.dtype)
    sample = rest[0, 0]
    for r in range(num_rows):
        source, target = yuv[0, r].ctypes.data, out[r].ctypes.data
        for j in range(0, whole, LANES):
            color_pixels(
                source + j * 4, plane, to_rgb_at, color_at, with_color, target + j * pixel, sample
            )
        if whole < size:
            at = rest.ctypes.data
            color_pixels(source + whole * 4, plane, to_rgb_at, color_at, with_color, at, sample)
            for j in range(whole, size):
                for c in range(3):
                    out[r, j, c] = rest[j - whole, c]


@_jit  # type: ignore[untyped-decorator]
def _store_with_gamma(yuv, to_rgb, color, gamma, out):  # type: ignore[no-untyped-def]
    """As `_store`, and each value looked up in between."""
    num_rows, size, _ = out.shape
    rgb = np.empty((num_rows, size, 3), np.float32)
    _store(yuv, to_rgb, color, True, rgb)
    for r in range(num_rows):
        for j in range(size):
            for c in range(3):
                level = int(rgb[r, j, c] * (_GAMMA_LEVELS - 1) + np.float32(0.5))
                yuv[c, r, j] = gamma[level]
    _store(yuv, _IDENTITY, _IDENTITY, False, out)


@_jit  # type: ignore[untyped-decorator]
def _fill_gamma(gamma, table):  # type: ignore[no-untyped-def]
    """value ** gamma for the levels of [0, 1]."""
    for level in range(_GAMMA_LEVELS):
        table[level] = (level / (_GAMMA_LEVELS - 1)) ** gamma


@_jit  # type: ignore[untyped-decorator]
def _any_between(indices, limit):  # type: ignore[no-untyped-def]
    for index in indices:  # noqa: SIM110 - Numba has no generator expressions
        if 0 <= index < limit:
            return True
    return False


@_jit  # type: ignore[untyped-decorator]
def _is_identity(color):  # type: ignore[no-untyped-def]
    for i in range(3):
        for k in range(4):
            if color[i, k] != _IDENTITY[i, k]:
                return False
    return True
