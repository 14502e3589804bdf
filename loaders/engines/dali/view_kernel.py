"""All views of a batch from its decoded pictures, in one pass of one Triton kernel.

It does what DALI's operators do after the decoder (see `loaders.engines.dali.graph`), but no
picture in between is ever written to memory: the kernel reads the decoded pixels and writes the
pixels of the batch. On a CPU the same kernel runs in Triton's interpreter, slowly, for tests. Only
this file uses Triton.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from loaders.plan.normalization import Normalization

# Columns of a view's numbers: top, left, height, width of the crop; whether it is mirrored; the
# 3 x 4 colour matrix; gamma. Then the corners (y, x) of the erased rectangles, then their extents.
_MIRROR, _COLOR, _GAMMA, _ERASE = (tl.constexpr(column) for column in (4, 5, 17, 18))
# Output pixels (rows, columns) of one program. The interpreter prefers few programs.
GPU_TILE, CPU_TILE = (8, 32), (64, 64)
NUM_WARPS = 4
# Triton must not compile a variant for each of these numbers, only one for each output type.
_NUMBERS = ["first_view", "num_views", "num_frames", "size", "num_erase"]


def write_views(
    pictures: Sequence[torch.Tensor],
    inputs: Mapping[str, Any],
    rows: Sequence[int],
    views: Sequence[torch.Tensor],
    normalization: Normalization | None = None,
) -> None:
    """Writes the views of N samples to their rows of a batch.

    On a GPU the work is launched on the current stream.

    Args:
        pictures: N contiguous (F, H, W, 3) uint8 RGB tensors on one device.
        inputs: See `loaders.engines.dali.graph.Inputs`.
        rows: N rows of the batch.
        views: One contiguous (B, G, T, S, S, 3) tensor for each group of G views, on that device:
            float32 or float16 in [0, 1] or normalised, or uint8.
        normalization: The last step of the views.
    """
    device, size_px = views[0].device, views[0].shape[-2]
    store = _store(views[0].dtype, normalization)
    tables = (_sources(pictures, rows), inputs["place"], _numbers(inputs), store)
    there = [_on(device, table) for table in tables]
    tile_y, tile_x = CPU_TILE if device.type == "cpu" else GPU_TILE
    num_tiles = triton.cdiv(size_px, tile_y) * triton.cdiv(size_px, tile_x)
    kernel, first_view = compiled(device.type == "cpu"), 0
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for group in views:
            num_views, num_frames = group.shape[1:3]
            kernel[(num_tiles, num_views * num_frames, len(rows))](
                *there,
                group,
                first_view,
                inputs["flip"].shape[1],
                num_frames,
                size_px,
                inputs["erase"].shape[-1] // 2,
                TILE_Y=tile_y,
                TILE_X=tile_x,
                num_warps=NUM_WARPS,
            )
            first_view += num_views


@cache
def compiled(is_interpreted: bool) -> Any:
    """The kernel for a GPU, or for the interpreter."""
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = is_interpreted
        return triton.jit(make_views, do_not_specialize=_NUMBERS)


def _on(device: torch.device, table: np.ndarray) -> torch.Tensor:
    there = torch.from_numpy(table)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there


def _sources(pictures: Sequence[torch.Tensor], rows: Sequence[int]) -> np.ndarray:
    """(N, 4) int64: where each sample's pictures lie, their height and width, and its row."""
    return np.array(
        [(one.data_ptr(), *one.shape[1:3], row) for one, row in zip(pictures, rows, strict=True)],
        np.int64,
    )


def _numbers(inputs: Mapping[str, Any]) -> np.ndarray:
    """(N, V, columns) float32, see `_MIRROR`."""
    parts = (inputs[name] for name in ("crop", "flip", "color", "gamma", "erase"))
    flat = [part.reshape(*inputs["flip"].shape, -1) for part in parts]
    return np.concatenate(flat, axis=-1, dtype=np.float32)


def _store(dtype: torch.dtype, normalization: Normalization | None) -> np.ndarray:
    """(3, 2) float32: each channel's factor and offset, applied last, to values in [0, 1]."""
    if normalization is None:
        return np.array([[255 if dtype == torch.uint8 else 1, 0]] * 3, np.float32)
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    return np.stack([1 / std, -mean / std], axis=-1).astype(np.float32)


def make_views(  # type: ignore[no-untyped-def]
    sources,
    places,
    numbers,
    store,
    out,
    first_view,
    num_views,
    num_frames,
    size,
    num_erase,
    TILE_Y: tl.constexpr,  # noqa: N803
    TILE_X: tl.constexpr,  # noqa: N803
):
    """Writes one tile of one frame of one view.

    The function is long because a kernel's helpers would have to be compiled or interpreted as the
    kernel is.

    The filter is the one of torchvision's and Pillow's antialiased bilinear resize: a triangle that
    widens with the scale and never reads outside the crop. It is not split into a vertical and a
    horizontal pass, because memory between two passes would cost more than one pass: each source
    pixel counts in only about four outputs.

    Args:
        sources: (N, 4) int64, see `_sources`.
        places: (N, V, T) int32, which picture each frame shows.
        numbers: (N, V, columns) float32, see `_MIRROR`.
        store: (3, 2) float32, see `_store`.
        out: (B, G, T, S, S, 3), the G views of one group.
        first_view: The number of the group's first view among V.
        num_views: V.
        num_frames: T.
        size: S.
        num_erase: Erased rectangles of a view.
        TILE_Y: Rows of a tile, a power of two.
        TILE_X: Columns of a tile, a power of two.
    """
    tiles_x = (size + TILE_X - 1) // TILE_X
    y = tl.program_id(0) // tiles_x * TILE_Y + tl.arange(0, TILE_Y)
    x = tl.program_id(0) % tiles_x * TILE_X + tl.arange(0, TILE_X)
    clip = tl.program_id(1)  # counts the frames of all views of the group
    sample = tl.program_id(2).to(tl.int64)
    view = sample * num_views + first_view + clip // num_frames
    at = numbers + view * (_ERASE + 4 * num_erase)

    source = sources + 4 * sample
    source_height, source_width = tl.load(source + 1), tl.load(source + 2)
    frame = tl.load(places + view * num_frames + clip % num_frames)
    picture = tl.load(source).to(tl.pointer_type(tl.uint8))
    picture += frame * source_height * source_width * 3

    top, left, height, width = tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3)
    # Tiles may be larger than what is left of the view. There the last pixel is made again.
    row, column = tl.minimum(y, size - 1), tl.minimum(x, size - 1)
    column = tl.where(tl.load(at + _MIRROR) != 0, size - 1 - column, column)
    reach_y, reach_x = tl.maximum(height / size, 1.0), tl.maximum(width / size, 1.0)
    centre_y = top + (row + 0.5) * (height / size)
    centre_x = left + (column + 0.5) * (width / size)
    begin_y, begin_x = tl.floor(centre_y - reach_y + 0.5), tl.floor(centre_x - reach_x + 0.5)
    red = tl.full((TILE_Y, TILE_X), 0.0, tl.float32)
    green, blue, total = red, red, red
    for i in range(tl.ceil(2 * reach_y).to(tl.int32)):
        source_y = begin_y + i
        weight_y = tl.maximum(1 - tl.abs(source_y + 0.5 - centre_y) / reach_y, 0.0)
        weight_y = tl.where((source_y >= top) & (source_y < top + height), weight_y, 0.0)
        line = picture + source_y.to(tl.int64) * source_width * 3
        for k in range(tl.ceil(2 * reach_x).to(tl.int32)):
            source_x = begin_x + k
            weight_x = tl.maximum(1 - tl.abs(source_x + 0.5 - centre_x) / reach_x, 0.0)
            weight_x = tl.where((source_x >= left) & (source_x < left + width), weight_x, 0.0)
            weight = weight_y[:, None] * weight_x[None, :]
            pixel = line[:, None] + (source_x.to(tl.int32) * 3)[None, :]
            counts = weight > 0
            red += weight * tl.load(pixel, mask=counts, other=0)
            green += weight * tl.load(pixel + 1, mask=counts, other=0)
            blue += weight * tl.load(pixel + 2, mask=counts, other=0)
            total += weight
    red, green, blue = red / total, green / total, blue / total

    erased = tl.full((TILE_Y, TILE_X), 0, tl.int1)
    for e in range(num_erase):
        corner = at + _ERASE + 2 * e
        below, right = y - tl.load(corner), x - tl.load(corner + 1)
        extent = corner + 2 * num_erase
        in_rows = (below >= 0) & (below < tl.load(extent))
        in_columns = (right >= 0) & (right < tl.load(extent + 1))
        erased = erased | (in_rows[:, None] & in_columns[None, :])

    gamma = tl.load(at + _GAMMA)
    target = out + (tl.load(source + 3) * tl.num_programs(1) + clip) * size * size * 3
    target = target + (y[:, None] * size + x[None, :]) * 3
    exists = (y < size)[:, None] & (x < size)[None, :]
    for channel in tl.static_range(3):
        color = at + _COLOR + 4 * channel
        value = tl.load(color) * red + tl.load(color + 1) * green + tl.load(color + 2) * blue
        value = tl.minimum(tl.maximum(value + tl.load(color + 3), 0.0), 1.0)
        if gamma != 1.0:
            power = tl.exp2(gamma * tl.log2(tl.maximum(value, 1e-30)))
            value = tl.where(value > 0, power, 0.0)
        value = tl.where(erased, 0.0, value)
        value = value * tl.load(store + 2 * channel) + tl.load(store + 2 * channel + 1)
        if out.dtype.element_ty == tl.uint8:
            value = tl.floor(value + 0.5)
        tl.store(target + channel, value.to(out.dtype.element_ty), mask=exists)
