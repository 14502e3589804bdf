"""Videos whose frames show their numbers."""

from pathlib import Path

import numpy as np

from tests.make_videos import make_video
from tests.shards.helpers import decoded_rgb

_BASE, _NUM_DIGITS, _BAND_PX = 8, 3, 32
_DARKEST, _STEP = 24, 28


def paint_number(number: int) -> np.ndarray:
    """A picture of 96 x 96 with three bands, one for each octal digit of a number below 512."""
    image = np.zeros((96, _NUM_DIGITS * _BAND_PX, 3), np.uint8)
    for place in range(_NUM_DIGITS):
        digit = number // _BASE**place % _BASE
        image[:, place * _BAND_PX : (place + 1) * _BAND_PX] = _DARKEST + _STEP * digit
    return image


def make_numbered(path: Path, num_frames: int, **options: object) -> Path:
    """A video of numbered frames; the options are those of `make_video`."""
    return make_video(
        path,
        num_frames=num_frames,
        height=96,
        width=_NUM_DIGITS * _BAND_PX,
        paint=paint_number,
        **options,  # type: ignore[arg-type]
    )


def numbers_in(data: bytes) -> list[int]:
    """The numbers that the frames of an encoded video show."""
    frames = decoded_rgb(data)
    bands = np.array_split(frames[:, 8:-8], _NUM_DIGITS, axis=2)
    digits = [
        np.rint((band[:, :, 6:-6].mean((1, 2, 3)) - _DARKEST) / _STEP).astype(int) for band in bands
    ]
    return [int(n) for n in sum(digit * _BASE**place for place, digit in enumerate(digits))]
