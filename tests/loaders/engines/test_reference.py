"""The oracle that places chroma in the centre of its pixels, against the definition."""

from pathlib import Path

import av
import numpy as np
import pytest

from loaders.engines.reference import centred_frame_to_rgb
from tests.make_videos import make_video


@pytest.mark.parametrize("size", [(64, 96), (65, 95)])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_centred_chroma(tmp_path: Path, size: tuple[int, int], matrix: str) -> None:
    height, width = size
    options = {"colorspace": matrix, "color_primaries": matrix, "color_trc": matrix}
    path = make_video(
        tmp_path / "a.mkv", codec="ffv1", num_frames=1, height=height, width=width, options=options
    )
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    found = centred_frame_to_rgb(frame)
    assert found.shape == (height, width, 3)
    luma, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8)
        .reshape(-1, plane.line_size)[: plane.height, : plane.width]
        .astype(np.float64)
        for plane in frame.planes
    )
    kr, kb = (0.2126, 0.0722) if matrix == "bt709" else (0.299, 0.114)
    for y, x in np.random.default_rng(0).integers(0, size, (60, 2)).tolist():
        b, r = (_between(plane, y, x) - 128 for plane in (blue, red))
        light = (luma[y, x] - 16) / 219
        rgb = np.array([light + 2 * (1 - kr) * r / 224, 0, light + 2 * (1 - kb) * b / 224])
        rgb[1] = (light - kr * rgb[0] - kb * rgb[2]) / (1 - kr - kb)
        np.testing.assert_allclose(found[y, x], (rgb * 255).clip(0, 255), atol=0.51)


def _between(plane: np.ndarray, y: int, x: int) -> float:
    """Linear between the four samples around a pixel; sample i is at 2 i + 0.5 of each axis."""
    i, j = (y - 0.5) / 2, (x - 0.5) / 2
    total = 0.0
    for row in (int(np.floor(i)), int(np.floor(i)) + 1):
        for column in (int(np.floor(j)), int(np.floor(j)) + 1):
            share = (1 - abs(i - row)) * (1 - abs(j - column))
            inside = plane[
                min(max(row, 0), len(plane) - 1), min(max(column, 0), plane.shape[1] - 1)
            ]
            total += share * float(inside)
    return total
