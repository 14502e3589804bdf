"""How close the views of a candidate are to those of the source: PSNR.

The reference is the source, stored nearly lossless and as large as any view can show. The views of
the candidate and of the reference show the same frames and the same part of the picture, mirrored,
coloured and erased alike. The crops of a plan are whole pixels of the stored picture, and a shift
by a quarter of a pixel would cost more PSNR than the encoding. So each edge of a crop is moved by
up to eight pixels, to the place that is nearest to an edge between two pixels of the reference.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import inf, log10

import numpy as np
import torch

from loaders import Loader
from loaders.plan.draw import Plan
from shards.encode.geometry import Fit, PictureShape, fit
from shards.encode.picture_filters import picture_shape
from shards.encode.recipe import Recipe
from shards.encode.video_stream import open_video
from shards.reader import ShardReader
from shards.sources.source import Source
from tb.advice.candidates import name_of

_MOVES = np.arange(-8, 9)[:, None, None, None]
_COST_OF_A_MOVE = 1e-6  # in pixels of error; the nearest of equally good places wins


@dataclass(frozen=True, kw_only=True)
class Served:
    """Stored videos that can be rendered.

    Attributes:
        recipe: How they are stored.
        loader: Makes the plans.
        reader: Reads the videos.
    """

    recipe: Recipe
    loader: Loader
    reader: ShardReader

    @property
    def name(self) -> str:
        """The name of the candidate."""
        return name_of(self.recipe)

    def fit(self, shape: PictureShape) -> Fit:
        """How the pictures of a source were scaled and cropped."""
        assert self.recipe.short_side_px is not None  # "copy" is not compared
        return fit(shape, self.recipe.short_side_px, self.recipe.codec_type.min_side_px)


def picture_shapes(sources: Sequence[Source]) -> dict[str, PictureShape]:
    """Key of a source -> the shape of its pictures. The sources must be known to decode."""
    shapes = {}
    for source in sources:
        with open_video(source.path) as (container, stream):
            shapes[source.key] = picture_shape(next(container.decode(stream)), stream)
    return shapes


def psnr_db(candidate: Served, reference: Served, shapes: dict[str, PictureShape]) -> float:
    """PSNR in dB over all views of epoch 0, with peak 1; infinite if the views are equal.

    Args:
        candidate: The videos to judge.
        reference: What it is compared with. It holds the same videos, maybe more.
        shapes: From `picture_shapes`.
    """
    pairs = [_on_both(plan, candidate, reference, shapes) for plan in candidate.loader.plans(0)]
    total, num_views = 0.0, 0
    engine = reference.loader.engine
    with (
        closing(engine.run(candidate.reader, (plan for plan, _ in pairs))) as ours,
        closing(engine.run(reference.reader, (plan for _, plan in pairs))) as theirs,
    ):
        for one, two in zip(ours, theirs, strict=True):
            for error in [*one.errors.values(), *two.errors.values()]:
                raise error
            is_video = one.plan.rows >= 0
            for a, b in zip(_views(one.views), _views(two.views), strict=True):
                squares = np.square(a - b, dtype=np.float64).mean(axis=(1, 2, 3, 4))
                total += float(squares[is_video].sum())
                num_views += int(is_video.sum())
    return -10 * log10(total / num_views) if total else inf


def common_crops(crops: np.ndarray, one: Fit, two: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Crops that show the same part of a picture in two stored forms of it.

    Args:
        crops: (V, 4) int64 top, left, height, width in pixels of the first form.
        one: The first form.
        two: The second form, of the same source.

    Returns:
        (V, 4) int64 crops in the first form, moved by up to eight pixels and cut to what the second
        form shows; and (V, 4) int64 crops in the second form.
    """
    origin, other_origin = np.array((one.top, one.left)), np.array((two.top, two.left))
    size, other_size = np.array((one.height, one.width)), np.array((two.height, two.width))
    ratio = np.divide((two.scaled_height, two.scaled_width), (one.scaled_height, one.scaled_width))
    low = np.maximum(np.ceil(other_origin / ratio - origin), 0)
    high = np.minimum(np.floor((other_origin + other_size) / ratio - origin), size)
    edges = np.stack([crops[:, :2], crops[:, :2] + crops[:, 2:]])
    near = np.clip(edges + _MOVES, low, high).astype(np.int64)  # (moves, 2 edges, V, 2 axes)
    exact = (near + origin) * ratio - other_origin
    error_px = np.abs(exact - np.rint(exact)) + _COST_OF_A_MOVE * np.abs(near - edges)
    best = error_px.argmin(axis=0)[None]
    ours, theirs = (
        np.take_along_axis(there, best, axis=0)[0]
        for there in (near, np.rint(exact).astype(np.int64))
    )
    return _crops(ours, size), _crops(theirs, other_size)


def _crops(edges: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(2, V, 2) edges as (V, 4) crops of at least one pixel in a picture of (height, width)."""
    begin = np.clip(edges[0], 0, size - 1)
    return np.concatenate([begin, np.clip(edges[1], begin + 1, size) - begin], axis=1)


def _on_both(
    plan: Plan, candidate: Served, reference: Served, shapes: dict[str, PictureShape]
) -> tuple[Plan, Plan]:
    """Plans near the given one, under which both show the same parts of the pictures."""
    rows = np.full_like(plan.rows, -1)
    crop, other_crop = plan.crop.copy(), plan.crop.copy()
    other_sizes = plan.sizes.copy()
    for b in np.flatnonzero(plan.rows >= 0).tolist():
        key = candidate.loader.manifest.keys[plan.rows[b]]
        rows[b] = reference.loader.manifest.row_of(key)
        # All recipes that encode store the same frames.
        assert reference.loader.manifest.num_frames[rows[b]] == plan.num_frames[b]
        one, two = candidate.fit(shapes[key]), reference.fit(shapes[key])
        crop[b], other_crop[b] = common_crops(plan.crop[b], one, two)
        other_sizes[b] = two.height, two.width
    other_plan = replace(plan, rows=rows, crop=other_crop, sizes=other_sizes)
    return replace(plan, crop=crop), other_plan


def _views(groups: Sequence[np.ndarray | torch.Tensor]) -> Iterator[np.ndarray]:
    """Yields each view of a batch, (B, T, S, S, 3), in the order of the plan."""
    for group in groups:
        for view in range(group.shape[1]):
            yield np.asarray(group[:, view])
