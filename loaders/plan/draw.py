"""Draws the plan of a batch: every random decision, as NumPy arrays, and nothing else.

A Philox counter made of (seed, epoch, video, clip) gives the draws of a video. So they do not
depend on the batch, the rank, the workers or the engine. Each kind of draw has a fixed place in a
view's row, so a draw of one view never shifts the draws of another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from loaders.plan.color import color_map
from loaders.plan.normalization import Normalization
from loaders.plan.views import MAX_ERASE, Augment, ViewSpec
from loaders.plan.window import frame_numbers
from shards.errors import InputError

# Second words of the Philox key, which separate these draws from each other and from the order's.
_PLAN_KEY = 0
_OWN_KEY = 2
# Columns of a view's uniform draws; each erase takes five more.
(
    _CROP_SCALE,
    _CROP_TOP,
    _CROP_LEFT,
    _FLIP,
    _CONTRAST_P,
    _CONTRAST,
    _BRIGHTNESS_P,
    _BRIGHTNESS,
    _SATURATION_P,
    _SATURATION,
    _HUE_P,
    _HUE,
    _GREY_P,
    _GAMMA_P,
    _GAMMA,
    _DROP_P,
    _DROP,
) = range(17)
_NUM_DRAWS = 17


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that an engine needs to make a batch of B videos with V views of T frames each.

    Attributes:
        rows: (B,) int64 manifest rows; -1 is padding.
        epochs: (B,) int64 epoch of each video.
        clips: (B,) int64 number of this draw among those of its video in its epoch, from 0.
        num_frames: (B,) int64 frames of the whole video.
        sizes: (B, 2) int64 height and width of the video's pictures, in pixels.
        frames: (B, V, T) int64 frame numbers in the video, in [0, num_frames).
        crop: (B, V, 4) int64 top, left, height, width in source pixels.
        flip: (B, V) bool, mirrored left to right after the crop.
        color: (B, V, 3, 4) float32: out = color[:, :3] @ rgb + color[:, 3], RGB in [0, 1]; the
            result is clipped to [0, 1] once, after the whole map.
        gamma: (B, V) float32 exponent, applied after the clip; 1 changes nothing.
        erase: (B, V, E, 4) int64 top, left, height, width in output pixels; height 0 means none.
            These rectangles become black.
        padded: (B,) bool, True where the window ran past the video's end and was reflected.
        size_px: Height and width of the output.
        normalization: The last step, after the rectangles; None for none.
    """

    rows: np.ndarray
    epochs: np.ndarray
    clips: np.ndarray
    num_frames: np.ndarray
    sizes: np.ndarray
    frames: np.ndarray
    crop: np.ndarray
    flip: np.ndarray
    color: np.ndarray
    gamma: np.ndarray
    erase: np.ndarray
    padded: np.ndarray
    size_px: int
    normalization: Normalization | None


def check_seed(seed: int) -> None:
    """Raises InputError for a seed that the draws cannot take."""
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}: give a number in [0, 2**63)")


def draw_plan(
    spec: ViewSpec,
    *,
    rows: np.ndarray,
    epochs: np.ndarray,
    num_frames: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    seed: int,
    fps: np.ndarray | None = None,
    clips: np.ndarray | None = None,
) -> Plan:
    """Draws the plan of one batch.

    Args:
        spec: The stage's views.
        rows: (B,) manifest rows, -1 for padding, whose draws nobody uses.
        epochs: (B,) epoch of each row.
        num_frames: (B,) frames of each video, >= 1.
        heights: (B,) source height in pixels.
        widths: (B,) source width in pixels.
        seed: The run's seed, in [0, 2**63).
        fps: (B,) frames per second of each video. Only `spec.stride_s` needs them.
        clips: (B,) number of this draw among those of its video in its epoch; None: all are 0.
    """
    clips = np.zeros(len(rows), dtype=np.int64) if clips is None else clips
    uniform, window_u = _uniform(rows, epochs, clips, spec.num_views, seed)
    frames, runs_past_end = frame_numbers(spec, num_frames, fps, window_u)
    drawn = [
        _draw_views(uniform[:, views], spec, augment, heights, widths)
        for views, augment in _views_by_augment(spec)
    ]
    crop, flip, color, gamma, erase = (
        np.concatenate(part, axis=1) for part in zip(*drawn, strict=True)
    )
    return Plan(
        rows=rows,
        epochs=epochs,
        clips=clips,
        num_frames=num_frames,
        sizes=np.stack([heights, widths], axis=-1),
        frames=frames,
        crop=crop,
        flip=flip,
        color=color,
        gamma=gamma,
        erase=erase,
        padded=runs_past_end & (rows >= 0),
        size_px=spec.size_px,
        normalization=spec.normalization,
    )


def draw_uniform(
    rows: np.ndarray, epochs: np.ndarray, clips: np.ndarray, size: int, *, seed: int
) -> np.ndarray:
    """Numbers for what a user does to batches; they share nothing with the draws of a plan.

    Args:
        rows: (B,) manifest rows, as in a plan.
        epochs: (B,) epoch of each row, as in a plan.
        clips: (B,) number of each clip, as in a plan.
        size: Numbers for each row.
        seed: The run's seed, in [0, 2**63).

    Returns:
        (B, size) float32, uniform in [0, 1).
    """
    drawn = np.empty((len(rows), size), dtype=np.float32)
    for b, generator in enumerate(_generators(rows, epochs, clips, seed, _OWN_KEY)):
        generator.random(dtype=np.float32, out=drawn[b])
    return drawn


def _views_by_augment(spec: ViewSpec) -> Iterator[tuple[slice, Augment]]:
    """Yields each slice of neighbouring views that share an augmentation, and the augmentation."""
    first = 0
    groups = zip(spec.groups, spec.augments, strict=True)
    for augment, alike in groupby(augment for group, augment in groups for _ in group.offsets):
        last = first + len(list(alike))
        yield slice(first, last), augment
        first = last


def _draw_views(
    uniform: np.ndarray, spec: ViewSpec, augment: Augment, heights: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Crop, flip, color, gamma and erase of V views from their (B, V, draws) uniforms."""
    if spec.num_crops == 3:
        uniform = _three_crops(uniform, heights, widths)
    elif augment.crop_scale[0] == augment.crop_scale[1]:
        uniform[:, :, _CROP_TOP : _CROP_LEFT + 1] = 0.5  # a fixed crop is a centre crop
    is_grey = uniform[:, :, _GREY_P] < augment.grey_p
    has_gamma = is_grey & (uniform[:, :, _GAMMA_P] < augment.gamma_p)
    gamma = np.where(has_gamma, _scale(uniform[:, :, _GAMMA], augment.gamma), 1.0)
    num_erase = max(one.num_erase for one in spec.augments)
    return (
        _crops(uniform, augment, heights, widths),
        uniform[:, :, _FLIP] < augment.flip_p,
        _color(uniform, augment, is_grey).astype(np.float32),
        gamma.astype(np.float32),
        _erases(uniform, augment, spec.size_px)[:, :, :num_erase],
    )


def _uniform(
    rows: np.ndarray, epochs: np.ndarray, clips: np.ndarray, num_views: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(B, V, draws) uniforms of the views and (B,) of the window, from one counter per row."""
    width = _NUM_DRAWS + 5 * MAX_ERASE
    drawn = np.empty((len(rows), 1 + num_views * width))
    for b, generator in enumerate(_generators(rows, epochs, clips, seed, _PLAN_KEY)):
        generator.random(out=drawn[b])
    return drawn[:, 1:].reshape(len(rows), num_views, width), drawn[:, 0]


def _generators(
    rows: np.ndarray, epochs: np.ndarray, clips: np.ndarray, seed: int, purpose: int
) -> Iterator[np.random.Generator]:
    """One generator for each row, from one counter per clip of a video."""
    key = np.array([seed, purpose], dtype=np.uint64)
    for clip, row, epoch in zip(clips, np.maximum(rows, 0), epochs, strict=True):
        counter = np.array([0, clip, row, epoch], dtype=np.uint64)
        yield np.random.Generator(np.random.Philox(key=key, counter=counter))


def _three_crops(uniform: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Crops at the start, middle and end of the longer side, centred on the other."""
    share = np.tile([0.0, 0.5, 1.0 - 1e-9], uniform.shape[1] // 3)[None]
    wide = (widths >= heights)[:, None]
    uniform[:, :, _CROP_LEFT] = np.where(wide, share, 0.5)
    uniform[:, :, _CROP_TOP] = np.where(wide, 0.5, share)
    return uniform


def _scale(u: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return bounds[0] + u * (bounds[1] - bounds[0])


def _crops(
    uniform: np.ndarray, augment: Augment, heights: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    scale = _scale(uniform[:, :, _CROP_SCALE], augment.crop_scale)
    height = np.maximum(np.rint(scale * heights[:, None]), 1).astype(np.int64)
    width = np.maximum(np.rint(scale * widths[:, None]), 1).astype(np.int64)
    top = (uniform[:, :, _CROP_TOP] * (heights[:, None] - height + 1)).astype(np.int64)
    left = (uniform[:, :, _CROP_LEFT] * (widths[:, None] - width + 1)).astype(np.int64)
    return np.stack([top, left, height, width], axis=-1)


def _color(uniform: np.ndarray, augment: Augment, is_grey: np.ndarray) -> np.ndarray:
    """(B, V, 3, 4), see `color_map`."""

    def factor(chance: int, value: int, bounds: tuple[float, float], p: float) -> np.ndarray:
        return np.where(uniform[:, :, chance] < p, _scale(uniform[:, :, value], bounds), 1.0)

    turn = _scale(uniform[:, :, _HUE], (-augment.hue, augment.hue))
    channel = (uniform[:, :, _DROP] * 3).astype(np.int64)
    return color_map(
        contrast=factor(_CONTRAST_P, _CONTRAST, augment.contrast, augment.contrast_p),
        turn=np.where(uniform[:, :, _HUE_P] < augment.color_p, turn, 0.0),
        saturation=factor(_SATURATION_P, _SATURATION, augment.saturation, augment.color_p),
        brightness=factor(_BRIGHTNESS_P, _BRIGHTNESS, augment.brightness, augment.color_p),
        is_grey=is_grey,
        dropped=np.where(uniform[:, :, _DROP_P] < augment.drop_channel_p, channel, -1),
    )


def _erases(uniform: np.ndarray, augment: Augment, size_px: int) -> np.ndarray:
    """(B, V, MAX_ERASE, 4); rectangles that are not drawn have size 0."""
    draws = uniform[:, :, _NUM_DRAWS:].reshape(*uniform.shape[:2], MAX_ERASE, 5)
    drawn = (draws[..., 0] < augment.erase_p) & (np.arange(MAX_ERASE) < augment.num_erase)
    shortest, limit = -(-size_px // 6), -(-size_px // 3)  # [1/6, 1/3) in whole pixels
    extent = shortest + (draws[..., 1:3] * (limit - shortest)).astype(np.int64)
    extent = np.where(drawn[..., None], extent, 0)
    corner = (draws[..., 3:5] * (size_px - extent + 1)).astype(np.int64)
    return np.concatenate([corner, extent], axis=-1)
