"""The compiled pass against plain NumPy and torchvision, on planes of any size."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from loaders.engines.fused.kernel import render_views
from loaders.engines.fused.resampling import view_filters
from loaders.engines.fused.values import black, color_maps, gamma_curves
from loaders.plan.normalization import NORMALIZATIONS, Normalization

pytestmark = pytest.mark.usefixtures("compiled_engine")

Y_ONLY = np.array([[1 / 255, 0, 0, 0]] * 3, np.float32)
YUV_AS_RGB = np.eye(3, 4, dtype=np.float32) / 255
ALL_BYTES = (np.uint8(0), np.uint8(255))


def _render(
    planes: list[np.ndarray],
    crop: list[int],
    size_px: int,
    *,
    to_rgb: np.ndarray = Y_ONLY,
    luma_range: tuple[np.uint8, np.uint8] = ALL_BYTES,
    flip: bool = False,
    color: np.ndarray | None = None,
    gamma: float = 1.0,
    erase: list[list[int]] | None = None,
    normalization: Normalization | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """One view of one frame: (S, S, 3)."""
    out: np.ndarray = np.full((1, 1, size_px, size_px, 3), 77, dtype)
    _render_views(
        [planes],
        np.zeros((1, 1), np.int64),
        np.array([crop]),
        out,
        to_rgb=to_rgb,
        luma_range=luma_range,
        flips=np.array([flip]),
        colors=None if color is None else color.astype(np.float32)[None],
        gammas=np.array([gamma], np.float32),
        erases=np.array([erase or []], np.int64).reshape(1, -1, 4),
        normalization=normalization,
    )
    return np.asarray(out[0, 0])


def _render_views(
    frames: list[list[np.ndarray]],
    place: np.ndarray,
    crops: np.ndarray,
    out: np.ndarray,
    *,
    to_rgb: np.ndarray = YUV_AS_RGB,
    luma_range: tuple[np.uint8, np.uint8] = ALL_BYTES,
    flips: np.ndarray | None = None,
    colors: np.ndarray | None = None,
    gammas: np.ndarray | None = None,
    erases: np.ndarray | None = None,
    normalization: Normalization | None = None,
) -> None:
    num_views, size_px = len(crops), out.shape[2]
    flips = np.zeros(num_views, bool) if flips is None else flips
    gammas = np.ones(num_views, np.float32) if gammas is None else gammas
    plain = np.tile(np.eye(3, 4, dtype=np.float32), (num_views, 1, 1))
    render_views(
        np.array([[plane.ctypes.data for plane in planes] for planes in frames]),
        np.array([[plane.strides[0] for plane in planes] for planes in frames]),
        luma_range,
        to_rgb,
        place,
        view_filters(size_px, crops, flips, frames[0][0].shape),
        *color_maps(plain if colors is None else colors, gammas, normalization),
        *gamma_curves(gammas, out.dtype, normalization),
        np.zeros((num_views, 0, 4), np.int64) if erases is None else erases,
        black(out.dtype, normalization),
        out.view(np.uint16) if out.dtype == np.float16 else out,
    )


def _planes(rng: np.random.Generator, height: int, width: int) -> list[np.ndarray]:
    half = ((height + 1) // 2, (width + 1) // 2)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in ((height, width), half, half)]


@st.composite
def _crops(draw: st.DrawFn) -> tuple[int, int, list[int], int]:
    height, width = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    crop_height, crop_width = draw(st.integers(1, height)), draw(st.integers(1, width))
    top = draw(st.integers(0, height - crop_height))
    left = draw(st.integers(0, width - crop_width))
    return height, width, [top, left, crop_height, crop_width], draw(st.integers(8, 130))


@given(_crops(), st.booleans(), st.integers(0, 99))
def test_luma_is_torchvisions_antialiased_crop(
    case: tuple[int, int, list[int], int], flip: bool, seed: int
) -> None:
    height, width, crop, size_px = case
    planes = _planes(np.random.default_rng(seed), height, width)
    picture = torch.from_numpy(planes[0]).float()[None] / 255
    expected = functional.resized_crop(picture, *crop, [size_px, size_px], antialias=True)[0]
    expected = expected.flip(-1) if flip else expected
    ours = _render(planes, crop, size_px, flip=flip)
    for channel in range(3):
        # Each of the two passes cuts off up to 1/256 of a step per tap, and adds half of it back.
        np.testing.assert_allclose(ours[..., channel], expected, atol=0.2 / 255)
        # On average the errors cancel, but not in a picture of a single row.
        assert np.abs(ours[..., channel] - expected.numpy()).mean() < 0.05 / 255


@given(_crops(), st.booleans())
def test_chroma_lies_where_the_standard_puts_it(
    case: tuple[int, int, list[int], int], flip: bool
) -> None:
    """A ramp in chroma: chroma sits on the left luma sample, and is centred vertically."""
    height, width, crop, size_px = case
    planes = [np.zeros_like(plane) for plane in _planes(np.random.default_rng(0), height, width)]
    planes[1][:] = np.arange(planes[1].shape[1])[None]
    planes[2][:] = np.arange(planes[2].shape[0])[:, None]
    ours = _render(planes, crop, size_px, to_rgb=YUV_AS_RGB, flip=flip) * 255
    top, left, crop_height, crop_width = crop
    x = left + (np.arange(size_px) + 0.5) * crop_width / size_px
    y = top + (np.arange(size_px) + 0.5) * crop_height / size_px
    # Luma's coordinate x (pixel centres at .5) is chroma sample number (x - 0.5) / 2.
    u = np.broadcast_to((x - 0.5) / 2, (size_px, size_px))[:, :: -1 if flip else 1]
    v = np.broadcast_to(((y - 1) / 2)[:, None], (size_px, size_px))
    # At the crop's edges the filter has fewer samples. Inside, a triangle filter that shrinks keeps
    # a ramp to within a tenth of a sample, and a wrong siting would be a quarter off.
    margin = np.ceil(size_px / np.array([crop_height, crop_width]) * 2 + 1).astype(int)
    inside = (slice(margin[0], size_px - margin[0]), slice(margin[1], size_px - margin[1]))
    np.testing.assert_allclose(ours[..., 1][inside], u[inside], atol=0.12)
    np.testing.assert_allclose(ours[..., 2][inside], v[inside], atol=0.12)


def test_colour_gamma_erase_and_clip_in_their_order() -> None:
    rng = np.random.default_rng(0)
    planes = _planes(rng, 64, 64)
    to_rgb = rng.uniform(0, 1, (3, 4)) * [1 / 255, 1 / 255, 1 / 255, -0.5]
    color = rng.uniform(-0.3, 0.3, (3, 4)) + np.eye(3, 4)
    crop = [0, 0, 64, 64]
    yuv = _render(planes, crop, 64, to_rgb=YUV_AS_RGB) * 255
    rgb = np.clip(yuv @ to_rgb[:, :3].T + to_rgb[:, 3], 0, 1)
    expected = np.clip(rgb @ color[:, :3].T + color[:, 3], 0, 1) ** 0.8
    is_inside = (expected > 0) & (expected < 1)
    assert (is_inside.mean(axis=(0, 1)) > 0.2).all()
    assert not is_inside.all()  # some values are clipped
    expected[3:10, 5:50] = 0
    ours = _render(
        planes,
        crop,
        64,
        to_rgb=to_rgb.astype(np.float32),
        color=color,
        gamma=0.8,
        erase=[[3, 5, 7, 45], [0, 0, 0, 9]],
    )
    # Gamma comes from a table of 4096 levels, and near 0 a level makes the largest difference.
    assert np.abs(ours - expected).max() < 2e-3
    assert np.abs(ours - expected).mean() < 1e-4


def test_luma_outside_studio_range_is_clipped_before_resampling() -> None:
    planes = [np.zeros((32, 32), np.uint8), *[np.full((16, 16), 128, np.uint8)] * 2]
    planes[0][::2] = 255
    ours = _render(planes, [0, 0, 32, 32], 16, luma_range=(np.uint8(16), np.uint8(235)))
    np.testing.assert_allclose(ours[4:12], (16 + 235) / 2 / 255, atol=1e-4)


@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize("size_px", [16, 23])
def test_normalisation_is_the_last_step(size_px: int, gamma: float) -> None:
    """After the clip and gamma, and over erased rectangles too, which stay black."""
    planes = _planes(np.random.default_rng(2), 50, 70)
    color = np.array([[2.5, 0, 0, -0.6], [0, 1, 0.5, 0], [0.3, 0, 0.8, 0]])
    what: dict[str, Any] = {"color": color, "gamma": gamma, "erase": [[3, 2, 6, 9]]}
    plain = _render(planes, [3, 4, 40, 60], size_px, to_rgb=YUV_AS_RGB, **what)
    assert plain.min() == 0
    assert plain.max() == 1
    what |= {"to_rgb": YUV_AS_RGB, "normalization": NORMALIZATIONS["kinetics"]}
    exact = _render(planes, [3, 4, 40, 60], size_px, **what)
    mean, std = NORMALIZATIONS["kinetics"].mean, NORMALIZATIONS["kinetics"].std
    np.testing.assert_allclose(exact, (plain - np.array(mean)) / np.array(std), atol=2e-6)
    half = _render(planes, [3, 4, 40, 60], size_px, dtype="float16", **what)
    np.testing.assert_array_equal(half, exact.astype(np.float16))


@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize("size_px", [8, 16, 23, 112])
def test_output_types_agree(size_px: int, gamma: float) -> None:
    planes = _planes(np.random.default_rng(1), 50, 70)
    exact = _render(planes, [3, 4, 40, 60], size_px, gamma=gamma)
    half = _render(planes, [3, 4, 40, 60], size_px, gamma=gamma, dtype="float16")
    byte = _render(planes, [3, 4, 40, 60], size_px, gamma=gamma, dtype="uint8")
    np.testing.assert_array_equal(half, exact.astype(np.float16))
    np.testing.assert_array_equal(byte, np.floor(exact * np.float32(255) + np.float32(0.5)))


def test_every_float16_level_is_rounded_to_the_nearest() -> None:
    """The ramp is so fine that it has subnormal and normal halves, and ties between them."""
    planes = [np.zeros((32, 32), np.uint8), *[np.zeros((16, 16), np.uint8)] * 2]
    for value in (0.0, 2.0**-25, 3 * 2.0**-25, 2.0**-24, 2.0**-14, 0.1, 1 - 2.0**-12, 1.0):
        to_rgb = np.zeros((3, 4), np.float32)
        to_rgb[:, 3] = value
        half = _render(planes, [0, 0, 32, 32], 16, to_rgb=to_rgb, dtype="float16")
        assert (half == np.float16(value)).all()


@given(_crops(), st.integers(0, 99))
def test_luma_outside_the_crop_is_never_used(
    case: tuple[int, int, list[int], int], seed: int
) -> None:
    height, width, crop, size_px = case
    rng = np.random.default_rng(seed)
    planes = _planes(rng, height, width)
    ours = _render(planes, crop, size_px)
    top, left, crop_height, crop_width = crop
    inside = (slice(top, top + crop_height), slice(left, left + crop_width))
    other = rng.integers(0, 256, (height, width), dtype=np.uint8)
    other[inside] = planes[0][inside]
    np.testing.assert_array_equal(_render([other, *planes[1:]], crop, size_px), ours)


@given(_crops(), st.sampled_from(["uint8", "float16", "float32"]), st.integers(0, 80))
def test_writes_its_output_and_nothing_beside_it(
    case: tuple[int, int, list[int], int], dtype: str, shift: int
) -> None:
    """Rows are written in overlapping pieces, and past the caches in lines of 64 bytes."""
    height, width, crop, size_px = case
    planes = [_planes(np.random.default_rng(seed), height, width) for seed in range(2)]
    shape = (1, 2, size_px, size_px, 3)
    expected = np.empty(shape, dtype)
    place, crops = np.array([[0, 1]]), np.array([crop])
    _render_views(planes, place, crops, expected)
    for t in range(2):
        np.testing.assert_array_equal(
            expected[0, t], _render(planes[t], crop, size_px, to_rgb=YUV_AS_RGB, dtype=dtype)
        )
    around = np.full(expected.size + 200, 77, dtype)
    _render_views(planes, place, crops, around[shift : shift + expected.size].reshape(shape))
    np.testing.assert_array_equal(around[:shift], 77)
    np.testing.assert_array_equal(around[shift : shift + expected.size], expected.ravel())
    np.testing.assert_array_equal(around[shift + expected.size :], 77)


@given(st.lists(_crops(), min_size=2, max_size=4), st.integers(8, 40), st.integers(0, 99))
def test_a_view_depends_on_no_other_and_on_no_grouping_of_frames(
    cases: list[tuple[int, int, list[int], int]], size_px: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    height, width = max(case[0] for case in cases), max(case[1] for case in cases)
    frames = [_planes(rng, height, width) for _ in range(3)]
    num_views = len(cases)
    crops = np.array([case[2] for case in cases])
    place = rng.integers(0, 3, (num_views, 4))
    what: dict[str, Any] = {
        "flips": rng.random(num_views) < 0.5,
        "colors": rng.uniform(-1, 1, (num_views, 3, 4)).astype(np.float32),
        "gammas": rng.choice([1, 0.7, 1.3], num_views).astype(np.float32),
        "erases": rng.integers(0, 5, (num_views, 2, 4)),
    }
    together = np.zeros((num_views, 4, size_px, size_px, 3), np.float32)
    _render_views(frames, place, crops, together, **what)
    apart = np.zeros_like(together)
    for v in range(num_views):
        for n in range(3):
            one = slice(v, v + 1)
            only = {name: values[one] for name, values in what.items()}
            _render_views(frames[n : n + 1], place[one] - n, crops[one], apart[one], **only)
    np.testing.assert_array_equal(apart, together)


@pytest.mark.parametrize("size_px", [16, 48, 50])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_the_place_of_the_output_in_memory_does_not_matter(size_px: int, dtype: str) -> None:
    """An output that begins with a cache line may be written in another way."""
    rng = np.random.default_rng(size_px)
    frames = [_planes(rng, 60, 90) for _ in range(2)]
    shape = (2, 2, size_px, size_px, 3)
    outs = []
    for begin in (0, 16):
        memory = np.full(int(np.prod(shape)) * 4 + 128, 77, np.uint8)
        first = -memory.ctypes.data % 64 + begin
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        outs.append(memory[first : first + num_bytes].view(dtype).reshape(shape))
        _render_views(
            frames,
            np.array([[0, 1], [1, 1]]),
            np.array([[3, 5, 50, 60], [0, 0, 60, 90]]),
            outs[-1],
            flips=np.array([True, False]),
            erases=np.array([[[1, 2, 5, 4], [0, 0, 0, 0]], [[9, 9, 7, 7], [12, 0, 4, 16]]]),
        )
        assert (memory[:first] == 77).all()
        assert (memory[first + num_bytes :] == 77).all()
    assert (outs[0][0, :, 1:6, 2:6] == 0).all()
    np.testing.assert_array_equal(outs[0], outs[1])


@pytest.mark.slow
def test_a_plain_cpu_gives_the_same_pixels(tmp_path: Path) -> None:
    """Compiled for any x86-64 or arm64: other registers, and no instruction for float16."""
    path = tmp_path / "plain.npy"
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    code = f"import sys; from {__name__} import save_samples; save_samples(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=True)
    save_samples(str(tmp_path / "native.npy"))
    plain, native = np.load(path), np.load(tmp_path / "native.npy")
    # CPUs may fuse a product and a sum, so a rounding may go the other way.
    np.testing.assert_allclose(plain, native, atol=2**-11)
    assert (plain != native).mean() < 0.01


def save_samples(path: str) -> None:
    """Saves views of noise, in float16, to a file."""
    planes = _planes(np.random.default_rng(0), 90, 130)
    color = np.array([[1.2, 0.1, 0, 0], [0, 0.9, 0, 0], [0, 0.2, 1, -0.1]])
    what: dict[str, Any] = {"to_rgb": YUV_AS_RGB, "dtype": "float16"}
    views = [
        _render(planes, [5, 8, 80, 100], 61, **what),
        _render(planes, [0, 0, 20, 20], 61, color=color, gamma=0.8, **what),
        _render(planes, [5, 8, 80, 100], 61, normalization=NORMALIZATIONS["kinetics"], **what),
    ]
    np.save(path, np.stack(views))
