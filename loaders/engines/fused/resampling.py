"""The filters that resize views: which source rows and columns make an output, with which weights.

Compiled code computes them once per video. Weights are 16-bit and laid out for `simd`: the same tap
of 16 neighbouring outputs lies side by side.
"""

from typing import NamedTuple

import numba
import numpy as np

from loaders.engines.fused.simd import LANES

LUMA_Y, LUMA_X, CHROMA_Y, CHROMA_X = range(4)
TAPS, LOW, WIDTH = range(3)
_ONE = 2**16 - 1  # a weight of 1
_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


class Filters(NamedTuple):
    """How V views are resized; axes are luma's y and x, then chroma's.

    Attributes:
        first: (V, 4, R) int64, R = S rounded up to a multiple of 16: the first source index of each
            output, counted from the smallest one. Outputs from S on repeat the last one.
        weights: (V, 4, R / 16, taps, 16) uint16; the weights of an output sum to 65535.
        spans: (V, 4, 3) int64: how many taps count, the smallest source index that is read, and
            how many indices are read from there.
    """

    first: np.ndarray
    weights: np.ndarray
    spans: np.ndarray


@_jit  # type: ignore[untyped-decorator]
def view_filters(size, crops, flips, luma_size):  # type: ignore[no-untyped-def]
    """`Filters` of V views.

    Args:
        size: S, height and width of the output.
        crops: (V, 4) int64 top, left, height, width in luma pixels.
        flips: (V,) bool, mirrored left to right.
        luma_size: (height, width) of the Y planes; U and V have half of it, rounded up.
    """
    most = 0
    for v in range(len(crops)):
        most = max(most, _num_taps(crops[v, 2] / size), _num_taps(crops[v, 3] / size))
    num_views, length = len(crops), padded(size)
    first = np.empty((num_views, 4, length), np.int64)
    weights = np.zeros((num_views, 4, length // LANES, most, LANES), np.uint16)
    spans = np.empty((num_views, 4, 3), np.int64)
    for v in range(num_views):
        for axis in range(4):
            side = axis % 2
            # Every argument always has the same type, so that the filter is compiled only once.
            start, extent = float(crops[v, side]), float(crops[v, 2 + side])
            in_size = luma_size[side]
            if axis >= CHROMA_Y:
                # A chroma sample sits on the left luma sample of its pair (the default siting of
                # MPEG-2 and H.264), a quarter of a chroma sample off the centre. Vertically it is
                # centred.
                start, extent = start / 2 + 0.25 * side, extent / 2
                in_size = (in_size + 1) // 2
            flip = flips[v] and side == 1
            taps, low, width = axis_filter(
                size, start, extent, in_size, flip, first[v, axis], weights[v, axis]
            )
            # Each is set alone, because Numba takes seconds to compile an assignment to a slice.
            spans[v, axis, TAPS], spans[v, axis, LOW], spans[v, axis, WIDTH] = taps, low, width
    return Filters(first, weights, spans)


@_jit  # type: ignore[untyped-decorator]
def axis_filter(size, start, extent, in_size, flip, first, weights):  # type: ignore[no-untyped-def]
    """A triangle filter that resizes [start, start + extent) of an axis of `in_size` to `size`.

    The formula is that of Pillow's and torchvision's antialiased bilinear filter: it widens with
    the scale and never reads outside the crop. The function fills in `first` (R,) and `weights`
    (R / 16, taps, 16), which must be 0. They and the result are one axis of `Filters`.
    """
    scale = extent / size
    support = max(scale, 1.0)
    begin_crop, end_crop = int(np.floor(start)), min(int(np.ceil(start + extent)), in_size)
    taps = min(_num_taps(scale), in_size)
    for i in range(size):
        row = size - 1 - i if flip else i
        centre = start + (i + 0.5) * scale
        begin = min(max(int(np.floor(centre - support + 0.5)), begin_crop), end_crop - 1)
        end = min(max(int(np.floor(centre + support + 0.5)), begin + 1), end_crop)
        if end - begin > taps:
            # Rounding can add a sample of weight 0, for which there is no room.
            if centre - begin > end - centre:
                begin += 1
            else:
                end -= 1
        total = 0.0
        for source in range(begin, end):
            total += max(1.0 - abs((source + 0.5 - centre) / support), 0.0)
        first[row] = min(begin, in_size - taps)
        # Sums are rounded, not weights, so that the total is exact. A crop thinner than a pixel can
        # fall between samples; then the nearest one is used.
        share, given = 0.0 if total > 0 else 1.0, 0
        for source in range(begin, end):
            if total > 0:
                share += max(1.0 - abs((source + 0.5 - centre) / support), 0.0) / total
            until = int(share * _ONE + 0.5)
            weights[row // LANES, source - first[row], row % LANES] = until - given
            given = until
    low, high = first[0], first[0]
    for row in range(len(first)):
        if row >= size:
            first[row] = first[size - 1]
            for k in range(weights.shape[1]):
                weights[row // LANES, k, row % LANES] = weights[-1, k, (size - 1) % LANES]
        low, high = min(low, first[row]), max(high, first[row])
    for row in range(len(first)):
        first[row] -= low
    return taps, low, high + taps - low


@_jit  # type: ignore[untyped-decorator]
def _num_taps(scale):  # type: ignore[no-untyped-def]
    return int(np.ceil(2 * max(scale, 1.0)))


@_jit  # type: ignore[untyped-decorator]
def padded(length):  # type: ignore[no-untyped-def]
    """The least multiple of `LANES` that is not below `length`."""
    return (length + LANES - 1) // LANES * LANES
