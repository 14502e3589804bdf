"""Gamma as a table: the kernel looks powers up, because computing them takes longer."""

from typing import Any

import numpy as np

from loaders.engines.fused.simd import GAMMA_LEVELS


def gamma_curves(gammas: np.ndarray, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Tables of value ** gamma in the output's type, for the views that have a gamma.

    Args:
        gammas: (V,) exponents; 1 for none.
        dtype: uint8, float32 or float16.

    Returns:
        curves: (C, GAMMA_LEVELS) for equidistant values in [0, 1]; uint16 bits for float16.
        curve_of: (V,) int64, each view's row of `curves`; -1 for none.
    """
    drawn = gammas != 1
    values = np.linspace(0, 1, GAMMA_LEVELS, dtype=np.float32) ** gammas[drawn, None]
    curves = (values * 255 + 0.5 if dtype == np.uint8 else values).astype(dtype)
    curve_of = np.where(drawn, np.cumsum(drawn) - 1, -1)
    return curves.view(np.uint16) if dtype == np.float16 else curves, curve_of
