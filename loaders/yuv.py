"""YUV to RGB: the matrices, and the tags of a frame that choose among them.

Source: ITU-R BT.601 and BT.709.
"""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace


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


def yuv_to_rgb(frame: VideoFrame) -> np.ndarray:
    """(3, 4) map of 8-bit (Y, U, V) in [0, 255] to RGB in [0, 1].

    The range is limited unless the frame is tagged as full. A frame without tags is BT.601, as in
    FFmpeg's scaler.
    """
    if is_full_range(frame):
        luma_gain, chroma_gain, black = 1 / 255, 1 / 255, 0.0
    else:
        luma_gain, chroma_gain, black = 1 / 219, 1 / 224, 16.0
    gains = np.array([luma_gain, chroma_gain, chroma_gain])
    matrix = (_BT709 if is_bt709(frame) else _BT601) * gains
    offset = -matrix @ np.array([black, 128.0, 128.0])
    return np.concatenate([matrix, offset[:, None]], axis=1)


def is_bt709(frame: VideoFrame) -> bool:
    """Whether the frame is tagged BT.709."""
    return int(frame.colorspace) == int(Colorspace.ITU709)


def is_full_range(frame: VideoFrame) -> bool:
    """Whether luma runs from 0 to 255 and not from 16 to 235."""
    return frame.format.name.startswith("yuvj") or int(frame.color_range) == int(ColorRange.JPEG)
