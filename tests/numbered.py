"""Pictures that show their number in 4 x 3 large blocks, which no encoder can hide."""

import numpy as np

from tests.make_videos import Paint

_ROWS, _COLUMNS = 3, 4
_DARK, _BRIGHT = 40, 210


def numbered_paint(height: int, width: int) -> Paint:
    """Frame index (below 4096) -> RGB uint8 [height, width, 3]."""
    row = np.arange(height) * _ROWS // height
    column = np.arange(width) * _COLUMNS // width
    bit = row[:, None] * _COLUMNS + column[None]

    def paint(index: int) -> np.ndarray:
        grey = np.where((index >> bit) & 1, _BRIGHT, _DARK).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)

    return paint


def read_number(picture: np.ndarray) -> int:
    """The number in a grey picture (H, W) of any size, with values in 0-255."""
    height, width = picture.shape
    number = 0
    for bit in range(_ROWS * _COLUMNS):
        row, column = divmod(bit, _COLUMNS)
        # The middle half of each block, away from its blurred edges.
        y, x = np.array([row + 0.25, row + 0.75]), np.array([column + 0.25, column + 0.75])
        top, bottom = (y * height / _ROWS).astype(int)
        left, right = (x * width / _COLUMNS).astype(int)
        number |= int(picture[top:bottom, left:right].mean() > (_DARK + _BRIGHT) / 2) << bit
    return number
