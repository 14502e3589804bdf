"""From colours to stored values: gamma as a table, and normalisation without a step of its own.

The kernel looks powers up, because computing them takes longer. Normalisation is affine. So it is
part of that table. In a view without gamma it is part of the colour map and its limits.
"""

from typing import Any, NamedTuple

import numpy as np

from loaders.engines.fused.simd import GAMMA_LEVELS
from loaders.plan.normalization import Normalization

_LEVELS = np.linspace(0, 1, GAMMA_LEVELS, dtype=np.float32)


class Values(NamedTuple):
    """What becomes of the colours of V views, see the functions below.

    Attributes:
        maps: (V, 3, 4) float32, the maps of RGB to RGB.
        limits: (V, 3, 2) float32, the lowest and the highest value of each channel after `maps`.
        curves: (C, 1 or 3, GAMMA_LEVELS) tables of gamma.
        curve_of: (V,) int64, each view's row of `curves`; -1 for none.
        black: (3,) R, G and B of black.
    """

    maps: np.ndarray
    limits: np.ndarray
    curves: np.ndarray
    curve_of: np.ndarray
    black: np.ndarray


def view_values(
    colors: np.ndarray,
    gammas: np.ndarray,
    dtype: np.dtype[Any],
    normalization: Normalization | None,
) -> Values:
    """`Values` of V views; the arguments are those of the functions below."""
    return Values(
        *color_maps(colors, gammas, normalization),
        *gamma_curves(gammas, dtype, normalization),
        black(dtype, normalization),
    )


def color_maps(
    colors: np.ndarray, gammas: np.ndarray, normalization: Normalization | None
) -> tuple[np.ndarray, np.ndarray]:
    """The colour maps of V views, and the limits to which their results are clipped.

    Args:
        colors: (V, 3, 4) float32, the maps of a plan.
        gammas: (V,) exponents; 1 for none.
        normalization: The last step of the views.

    Returns:
        maps: (V, 3, 4) float32. In views without gamma they include the normalisation.
        limits: (V, 3, 2) float32, the lowest and the highest value of each channel.
    """
    limits = np.zeros((len(colors), 3, 2), np.float32)
    limits[..., 1] = 1
    if normalization is None:
        return colors, limits
    is_last = gammas == 1
    maps = colors.copy()
    for channel, (mean, std) in enumerate(zip(normalization.mean, normalization.std, strict=True)):
        exact = colors[is_last, channel].astype(np.float64)
        exact[:, 3] -= mean
        maps[is_last, channel] = exact / std
        limits[is_last, channel] = -mean / std, (1 - mean) / std
    return maps, limits


def gamma_curves(
    gammas: np.ndarray, dtype: np.dtype[Any], normalization: Normalization | None
) -> tuple[np.ndarray, np.ndarray]:
    """Tables of value ** gamma in the output's type, for the views that have a gamma.

    Args:
        gammas: (V,) exponents; 1 for none.
        dtype: uint8, float32 or float16.
        normalization: The last step of the views.

    Returns:
        curves: (C, 1, GAMMA_LEVELS) for equidistant values in [0, 1]; uint16 bits for float16. With
            normalisation (C, 3, GAMMA_LEVELS), a table for each channel.
        curve_of: (V,) int64, each view's row of `curves`; -1 for none.
    """
    drawn = gammas != 1
    values = _LEVELS ** gammas[drawn, None]
    curve_of = np.where(drawn, np.cumsum(drawn) - 1, -1)
    channels = 1 if normalization is None else 3
    curves = np.repeat(values[:, None], channels, axis=1)
    return _stored(_normalized(curves, normalization), dtype), curve_of


def black(dtype: np.dtype[Any], normalization: Normalization | None) -> np.ndarray:
    """(3,) R, G and B of black in the output's type; uint16 bits for float16."""
    return _stored(_normalized(np.zeros((3, 1), np.float32), normalization)[:, 0], dtype)


def _normalized(values: np.ndarray, normalization: Normalization | None) -> np.ndarray:
    """(..., 3, N) values in [0, 1] of R, G and B, after the last step."""
    if normalization is None:
        return values
    mean, std = (
        np.array(part, np.float32)[:, None] for part in (normalization.mean, normalization.std)
    )
    return np.asarray((values - mean) / std)


def _stored(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    stored = (values * 255 + 0.5 if dtype == np.uint8 else values).astype(dtype)
    return stored.view(np.uint16) if dtype == np.float16 else stored
