"""Colour operations as one affine map of RGB: contrast, hue, saturation, brightness, grey, drop.

All of them are linear in RGB (contrast is affine), so a view always needs one 3x4 matrix. Gamma is
the one step that is not linear; a plan holds it as a separate number.
"""

import numpy as np

# Rec. 601 luma, and RGB <-> YIQ (FCC NTSC), the space in which hue is a rotation.
_LUMA = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def color_map(
    *,
    contrast: np.ndarray,
    turn: np.ndarray,
    saturation: np.ndarray,
    brightness: np.ndarray,
    is_grey: np.ndarray,
    dropped: np.ndarray,
) -> np.ndarray:
    """(..., 3, 4) float64: out = map[:, :3] @ rgb + map[:, 3], the operations in this order.

    Args:
        contrast: (...) factors; 1 changes nothing, here and below.
        turn: (...) rotation of the hue, as a share of a full circle; 0 changes nothing.
        saturation: (...) factors.
        brightness: (...) factors.
        is_grey: (...) bool, whether the view becomes grey.
        dropped: (...) int, the channel that becomes 0; -1 for none.
    """
    # The map is exactly the identity if nothing is drawn, so that an engine may skip it.
    linear = np.where((turn == 0)[..., None, None], np.eye(3), hue_matrix(turn))
    linear = saturation_matrix(saturation) @ linear
    linear = brightness[..., None, None] * linear
    linear = saturation_matrix(np.where(is_grey, 0.0, 1.0)) @ linear
    linear = linear * (np.arange(3) != dropped[..., None])[..., None]
    # Contrast comes first and pivots on mid-grey: x -> c x + (1 - c) / 2. A pivot on the picture's
    # mean would depend on pixels, and a plan must not depend on them.
    offset = linear.sum(axis=-1) * ((1 - contrast) / 2)[..., None]
    return np.concatenate([linear * contrast[..., None, None], offset[..., None]], axis=-1)


def hue_matrix(turn: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation of the IQ plane by `turn` of a full circle, in RGB coordinates."""
    angle = 2 * np.pi * np.asarray(turn)
    rotation = np.zeros((*angle.shape, 3, 3))
    rotation[..., 0, 0] = 1
    rotation[..., 1, 1] = rotation[..., 2, 2] = np.cos(angle)
    rotation[..., 1, 2] = -np.sin(angle)
    rotation[..., 2, 1] = np.sin(angle)
    return np.asarray(_YIQ_TO_RGB @ rotation @ _RGB_TO_YIQ)


def saturation_matrix(factor: np.ndarray) -> np.ndarray:
    """(..., 3, 3): factor x rgb + (1 - factor) x luma; 0 is greyscale."""
    share = np.asarray(factor)[..., None, None]
    return np.asarray(share * np.eye(3) + (1 - share) * _LUMA[None, :])
