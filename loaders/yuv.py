"""YUV to RGB: the matrices, the tags of a frame that choose among them, and FFmpeg's conversion.

Source: ITU-R BT.601 and BT.709.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from av.video import reformatter
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation

from shards.decode.planes import Colors, frame_colors
from shards.format.video import ColorMatrix, ColorRange


def _difference_to_rgb(red: float, blue: float) -> np.ndarray:
    """(3, 3) map of luma and colour differences to RGB, from the shares of red and blue in luma."""
    green = 1 - red - blue
    to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
    return np.array(
        [
            [1, 0, to_red],
            [1, -to_blue * blue / green, -to_red * red / green],
            [1, to_blue, 0],
        ]
    )


_BT601, _BT709 = _difference_to_rgb(0.299, 0.114), _difference_to_rgb(0.2126, 0.0722)
# Corrects the RGB of a BT.709 picture that was converted as if it were BT.601.
BT601_TO_BT709 = (_BT709 @ np.linalg.inv(_BT601)).astype(np.float32)
# FFmpeg's default RGB conversion is fast and off by a level on average. These flags make it round
# correctly and interpolate chroma.
_EXACT = (
    int(Interpolation.BILINEAR)
    | int(Interpolation.ACCURATE_RND)
    | int(Interpolation.FULL_CHR_H_INT)
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameColor:
    """What the tags of a frame say about its colours.

    Attributes:
        matrix: BT.709 or BT.601.
        range: Limited (MPEG) or full (JPEG).
        luma_range: The luma of black and of white, uint8: (16, 235), or (0, 255) for full range.
        to_rgb: (3, 4) float32 map of 8-bit (Y, U, V) in [0, 255] to RGB in [0, 1].
    """

    matrix: Colorspace
    range: reformatter.ColorRange
    luma_range: tuple[np.uint8, np.uint8]
    to_rgb: np.ndarray


def frame_color(frame: VideoFrame) -> FrameColor:
    """The colours of a frame, see `shards.decode.planes.frame_colors`."""
    return FRAME_COLORS[frame_colors(frame)]


def frame_to_rgb(frame: VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB from FFmpeg's scaler, with the frame's matrix and range."""
    color = frame_color(frame)
    return frame.reformat(
        format="rgb24",
        src_colorspace=color.matrix,
        src_color_range=color.range,
        dst_color_range=reformatter.ColorRange.JPEG,
        interpolation=_EXACT,
    ).to_ndarray()


def _frame_color(colors: Colors) -> FrameColor:
    is_bt709, is_full = colors.matrix is ColorMatrix.BT709, colors.range is ColorRange.FULL
    luma_gain, chroma_gain, black = (1 / 255, 1 / 255, 0) if is_full else (1 / 219, 1 / 224, 16)
    gains = np.array([luma_gain, chroma_gain, chroma_gain])
    matrix = (_BT709 if is_bt709 else _BT601) * gains
    offset = -matrix @ np.array([black, 128.0, 128.0])
    return FrameColor(
        matrix=Colorspace.ITU709 if is_bt709 else Colorspace.ITU601,
        range=reformatter.ColorRange.JPEG if is_full else reformatter.ColorRange.MPEG,
        luma_range=(np.uint8(0), np.uint8(255)) if is_full else (np.uint8(16), np.uint8(235)),
        to_rgb=np.concatenate([matrix, offset[:, None]], axis=1).astype(np.float32),
    )


FRAME_COLORS = {
    colors: _frame_color(colors) for colors in map(Colors._make, product(ColorMatrix, ColorRange))
}
"""How frames with each matrix and range become RGB."""
