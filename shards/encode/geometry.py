"""Which way is up, and how large the stored picture is: arithmetic only."""

from dataclasses import dataclass
from fractions import Fraction

STEP_PX = 16
MAX_SIDE_PX = 4096


@dataclass(frozen=True, kw_only=True)
class PictureShape:
    """The size of a decoded picture, and how it is shown.

    Attributes:
        height: Pixels, as decoded.
        width: Pixels, as decoded.
        pixel_aspect: The width of a pixel divided by its height, as decoded.
        matrix: (a, b, c, d): pixel (x, y) is shown at (a x + c y, b x + d y), with y down. Only the
            signs and the larger pair matter: turns by 90 degrees and mirrorings.
    """

    height: int
    width: int
    pixel_aspect: Fraction = Fraction(1)
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """First turn, then scale to (scaled_height, scaled_width), then crop (height, width).

    `turns` are steps of libavfilter, (name, arguments). The crop is in the middle and begins at
    (top, left).
    """

    turns: tuple[tuple[str, str], ...]
    scaled_height: int
    scaled_width: int
    height: int
    width: int
    top: int
    left: int


def fit(shape: PictureShape, short_side_px: int, min_side_px: int = 64) -> Fit:
    """How to turn a decoded picture upright and bring it to a size that every NVDEC decodes.

    Both sides become multiples of 16 and at least `min_side_px`, so that a decoder can go from one
    video to the next. The picture is scaled to cover that size. It is enlarged only if a side is
    below the minimum. At most 15 px of the height or of the width are cropped, never of both.

    Args:
        shape: The picture; the result has square pixels.
        short_side_px: The upper bound of the shorter side, a multiple of 16.
        min_side_px: The lower bound of both sides, a multiple of 16, at most short_side_px.
    """
    turns = upright_filters(shape.matrix)
    height, width, pixel_aspect = shape.height, shape.width, shape.pixel_aspect
    if "transpose" in dict(turns):
        height, width, pixel_aspect = width, height, 1 / pixel_aspect
    # Squeeze the long axis and never stretch the short one, so that no pixels are invented.
    true_width = width * min(pixel_aspect, Fraction(1))
    true_height = height / max(pixel_aspect, Fraction(1))
    short = min(true_height, true_width)
    scale = min(Fraction(1), Fraction(short_side_px) / short)
    scale = max(scale, Fraction(min_side_px) / short)
    target_height = int(true_height * scale) // STEP_PX * STEP_PX
    target_width = int(true_width * scale) // STEP_PX * STEP_PX
    cover = max(target_height / true_height, target_width / true_width)
    scaled_height, scaled_width = int(true_height * cover), int(true_width * cover)
    return Fit(
        turns=turns,
        scaled_height=scaled_height,
        scaled_width=scaled_width,
        height=target_height,
        width=target_width,
        top=crop_start(scaled_height, target_height),
        left=crop_start(scaled_width, target_width),
    )


def crop_start(given_px: int, kept_px: int) -> int:
    """Where the middle `kept_px` of a side begin; even, because a chroma sample covers two px."""
    return round((given_px - kept_px) / 2) // 2 * 2


def upright_filters(matrix: tuple[int, int, int, int]) -> tuple[tuple[str, str], ...]:
    """The steps of libavfilter, (name, arguments), that apply the matrix of a `PictureShape`."""
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (("hflip", ""),) * (a < 0) + (("vflip", ""),) * (d < 0)
    # transpose=0 is the plain transposition, despite its other name "cclock_flip".
    turn = {(False, False): "0", (False, True): "1", (True, False): "2", (True, True): "3"}
    return (("transpose", turn[(b < 0, c < 0)]),)
