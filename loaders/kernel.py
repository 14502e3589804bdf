"""Planes and one plan row to one view, in compiled code (Numba).

Per frame and plane: a separable antialiased bilinear resample of the crop (the triangle filter of
torchvision's and Pillow's `antialias`), rows first because that pass runs over contiguous bytes;
then per pixel one 3x4 colour matrix, the clip, gamma where drawn, and the store in the output's
layout. No RGB picture and no full-size float picture ever exists.
"""

import numba
import numpy as np


def resample_weights(
    out_size: int, start: float, extent: float, in_size: int, *, flip: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Triangle-filter weights that resize [start, start + extent) of an axis to `out_size`.

    Same formula as Pillow's and torchvision's antialiased bilinear: the filter widens with the
    scale, and never reads outside the crop.

    Returns:
        first: (out_size,) int64, the first source index of each output.
        weights: (out_size, K) float32, rows sum to 1, zero-padded.
    """
    scale = extent / out_size
    support = max(scale, 1.0)
    low = int(np.floor(start))
    high = min(int(np.ceil(start + extent)), in_size)
    centre = start + (np.arange(out_size) + 0.5) * scale
    first = np.clip(np.floor(centre - support + 0.5).astype(np.int64), low, high - 1)
    last = np.clip(np.floor(centre + support + 0.5).astype(np.int64), first + 1, high)
    taps = int((last - first).max())
    position = first[:, None] + np.arange(taps)
    weights = np.maximum(1 - np.abs((position + 0.5 - centre[:, None]) / support), 0.0)
    weights[position >= last[:, None]] = 0.0
    # A crop thinner than a pixel can fall between samples: take the nearest one.
    empty = weights.sum(axis=1) == 0
    weights[empty, 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    # Padding taps must stay inside the plane: the kernel reads all of them.
    shift = np.maximum(first + taps - in_size, 0)
    for row in np.flatnonzero(shift):
        weights[row] = np.roll(weights[row], shift[row])
    first = first - shift
    if flip:
        first, weights = first[::-1], weights[::-1]
    return np.ascontiguousarray(first), np.ascontiguousarray(weights, dtype=np.float32)


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc", "arcp"})  # type: ignore[untyped-decorator]
def _resize(plane, first_y, weights_y, first_x, weights_x, low, high, rows, out):  # type: ignore[no-untyped-def]
    """One plane (H, W) uint8 to `out` (S, S) float32; `rows` is (S, >= high - low) scratch."""
    size = out.shape[0]
    width = high - low
    for i in range(size):
        row = rows[i]
        for x in range(width):
            row[x] = 0.0
        for k in range(weights_y.shape[1]):
            weight = weights_y[i, k]
            if weight != 0.0:
                source = plane[first_y[i] + k]
                for x in range(width):
                    row[x] += weight * source[low + x]
        for j in range(size):
            total = np.float32(0.0)
            begin = first_x[j] - low
            for k in range(weights_x.shape[1]):
                total += weights_x[j, k] * row[begin + k]
            out[i, j] = total


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _clip_affine(row, a, b, c):  # type: ignore[no-untyped-def]
    value = row[0] * a + row[1] * b + row[2] * c + row[3]
    return min(max(value, np.float32(0.0)), np.float32(1.0))


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def render_view(  # type: ignore[no-untyped-def]
    luma, chroma, frames, y_axis, x_axis, cy_axis, cx_axis, to_rgb, color, gamma, erase, scale, out
):
    """Writes one view.

    Args:
        luma: (N, H, W) uint8.
        chroma: (2, N, h, w) uint8.
        frames: (T,) int64 indices into the N decoded frames.
        y_axis, x_axis, cy_axis, cx_axis: (first, weights) of `resample_weights`, for luma and
            chroma.
        to_rgb: (3, 4) float32, (Y, U, V) in [0, 255] to RGB in [0, 1].
        color: (3, 4) float32, RGB to RGB.
        gamma: Exponent after the clip; 1 for none.
        erase: (E, 4) int64 top, left, height, width in output pixels, set to 0.
        scale: 1 for outputs in [0, 1], 255 for uint8 (rounded).
        out: (T, S, S, 3) array of the output type.
    """
    size = out.shape[1]
    low, high = x_axis[0].min(), x_axis[0].max() + x_axis[1].shape[1]
    clow, chigh = cx_axis[0].min(), cx_axis[0].max() + cx_axis[1].shape[1]
    rows = np.empty((size, max(high - low, chigh - clow)), np.float32)
    y = np.empty((size, size), np.float32)
    u = np.empty((size, size), np.float32)
    v = np.empty((size, size), np.float32)
    rounding = np.float32(0.5 if scale == 255 else 0.0)
    for t in range(frames.shape[0]):
        n = frames[t]
        _resize(luma[n], y_axis[0], y_axis[1], x_axis[0], x_axis[1], low, high, rows, y)
        _resize(chroma[0, n], cy_axis[0], cy_axis[1], cx_axis[0], cx_axis[1], clow, chigh, rows, u)
        _resize(chroma[1, n], cy_axis[0], cy_axis[1], cx_axis[0], cx_axis[1], clow, chigh, rows, v)
        for i in range(size):
            for j in range(size):
                # Clipped before the colour map too: studio-range video holds blacker than black
                # and whiter than white, which a lower contrast would otherwise bring back.
                red = _clip_affine(to_rgb[0], y[i, j], u[i, j], v[i, j])
                green = _clip_affine(to_rgb[1], y[i, j], u[i, j], v[i, j])
                blue = _clip_affine(to_rgb[2], y[i, j], u[i, j], v[i, j])
                for c in range(3):
                    value = _clip_affine(color[c], red, green, blue)
                    if gamma != 1.0:
                        value = value**gamma
                    out[t, i, j, c] = value * scale + rounding
        for e in range(erase.shape[0]):
            top, left, height, width = erase[e]
            out[t, top : top + height, left : left + width] = 0
