"""Stored sizes are multiples of 16; turning is compared with pixels that are moved one by one."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.filter import Graph
from hypothesis import given
from hypothesis import strategies as st

from shards.encode.geometry import STEP_PX, Fit, PictureShape, crop_start, fit, upright_filters

_SIDE = st.integers(1, 2000)
_SHORT = st.integers(9, 40).map(lambda n: n * STEP_PX)
_LEAST = st.integers(4, 9).map(lambda n: n * STEP_PX)


def _fit(height: int, width: int, short_side_px: int, min_side_px: int = 64) -> Fit:
    return fit(PictureShape(height=height, width=width), short_side_px, min_side_px)


@given(_SIDE, _SIDE, _SHORT, _LEAST)
def test_sizes_are_multiples_of_16_within_the_scaled_picture(
    height: int, width: int, short_side_px: int, least: int
) -> None:
    size = _fit(height, width, short_side_px, least)
    assert size.height % STEP_PX == size.width % STEP_PX == 0
    assert least <= min(size.height, size.width) <= short_side_px
    crop = (size.scaled_height - size.height, size.scaled_width - size.width)
    assert min(crop) >= 0
    if min(height, width) >= least:
        assert size.scaled_height <= height
        assert size.scaled_width <= width
        assert max(crop) < STEP_PX


@given(_SIDE.filter(lambda n: n >= 64), _SIDE.filter(lambda n: n >= 64), _SHORT)
def test_the_aspect_ratio_is_kept(height: int, width: int, short_side_px: int) -> None:
    size = _fit(height, width, short_side_px)
    # Up to one pixel, because sizes are rounded.
    assert abs(size.scaled_width - size.scaled_height * width / height) <= max(1, width / height)


@given(st.integers(4, 60), st.integers(4, 60))
def test_sizes_that_fit_are_left_alone(rows: int, columns: int) -> None:
    height, width = rows * STEP_PX, columns * STEP_PX
    size = _fit(height, width, 960)
    assert (size.scaled_height, size.scaled_width) == (size.height, size.width) == (height, width)


@pytest.mark.parametrize("cut", range(16))
def test_the_crop_is_where_libavfilter_has_the_middle(cut: int) -> None:
    """The picture's luma counts the columns, or the rows."""
    start = crop_start(64 + cut, 64)
    numbers = np.arange(64 + cut, dtype=np.uint8)
    for image in (np.tile(numbers, (64 + cut, 1)), np.tile(numbers[:, None], 64 + cut)):
        frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")
        graph = Graph()
        source = f"video_size={64 + cut}x{64 + cut}:pix_fmt=yuv420p:time_base=1/25"
        nodes = [graph.add("buffer", source), graph.add("crop", "64:64"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        graph.push(frame)
        cropped, first = (plane.to_ndarray(format="gray") for plane in (graph.pull(), frame))
        assert cropped[0, 0] == first[start, start]


def test_wide_pixels_become_square_by_squeezing() -> None:
    shape = PictureShape(height=576, width=720, pixel_aspect=Fraction(64, 45))  # PAL 16:9
    size = fit(shape, 2160)
    assert size.width / size.height == pytest.approx(16 / 9, rel=0.05)
    assert size.width <= 720


@pytest.mark.parametrize("sign", [1, -1])
def test_a_picture_on_its_side_has_the_size_of_the_upright_one(sign: int) -> None:
    aspect = Fraction(64, 45)
    upright = fit(PictureShape(height=576, width=720, pixel_aspect=aspect), 256)
    shape = PictureShape(height=720, width=576, pixel_aspect=1 / aspect, matrix=(0, sign, -sign, 0))
    turned = fit(shape, 256)
    assert not upright.turns
    assert turned == replace(upright, turns=upright_filters(shape.matrix))


def _shown(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Moves every pixel (x, y) to (a x + c y, b x + d y), shifted into view."""
    a, b, c, d = matrix
    height, width = image.shape
    y, x = np.mgrid[0:height, 0:width]
    to_x, to_y = a * x + c * y, b * x + d * y
    result = np.zeros((np.ptp(to_y) + 1, np.ptp(to_x) + 1), image.dtype)
    result[to_y - to_y.min(), to_x - to_x.min()] = image
    return result


@pytest.mark.parametrize(
    "matrix",
    [
        *[(a, 0, 0, d) for a in (1, -1) for d in (1, -1)],
        *[(0, b, c, 0) for b in (1, -1) for c in (1, -1)],
    ],
)
def test_all_eight_orientations(matrix: tuple[int, int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 24), np.uint8)
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=24, height=16, format="gray", time_base=Fraction(1, 25))]
    nodes += [graph.add(name, arguments or None) for name, arguments in upright_filters(matrix)]
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    frame = av.VideoFrame.from_ndarray(image, format="gray")
    frame.pts = 0
    graph.push(frame)
    assert np.array_equal(graph.pull().to_ndarray(), _shown(image, matrix))
