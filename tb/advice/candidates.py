"""Which recipes to try for some views."""

import math

import numpy as np

from loaders.plan.views import ViewSpec
from shards.encode.codecs import CODECS
from shards.encode.geometry import STEP_PX
from shards.encode.recipe import DEFAULT_SHORT_SIDE_PX, MAX_SHORT_SIDE_PX, Recipe
from shards.errors import InputError

_GOPS = (8, 32)
"""The lengths that are tried beside the default, in frames. Shorter ones would only cost bytes, and
longer ones would only cost time."""
_NUM_SIDES = 4
_NEARLY_LOSSLESS = 1
"""The quality of the reference on the scale of x264."""


def reference_recipe(spec: ViewSpec) -> Recipe:
    """The recipe of the reference, which stores nearly all that the views can show.

    The views of the other recipes are compared with those of the reference.

    Raises:
        InputError: The views need pictures that are larger than shards may store.
    """
    side_px = max(_useful_sides(spec)[-1], DEFAULT_SHORT_SIDE_PX)
    return Recipe(quality=_NEARLY_LOSSLESS, short_side_px=side_px)


def candidates(spec: ViewSpec, largest_px: int) -> list[Recipe]:
    """The recipes to try, the likeliest first.

    The first one stores what `tb shard` does by default.

    Args:
        spec: The views.
        largest_px: The largest short side that any video has in the reference. Larger sides are
            not tried, because they would store the same pictures.
    """
    sides = sorted({min(side, largest_px) for side in _useful_sides(spec)})
    second = sides[min(1, len(sides) - 1)]
    recipes = [
        Recipe(short_side_px=min(DEFAULT_SHORT_SIDE_PX, largest_px)),
        *(Recipe(short_side_px=side) for side in sides),
        *(Recipe(short_side_px=side, gop=gop) for side in sides[:2] for gop in _GOPS),
        *(Recipe(codec="mjpeg", short_side_px=side) for side in sides[:2]),
        Recipe(codec="copy"),
        # A codec is left out where all videos are smaller than its minimum, because it would
        # enlarge them.
        *(
            Recipe(codec=codec, short_side_px=max(second, CODECS[codec].min_side_px))
            for codec in ("hevc", "vp9")
            if CODECS[codec].min_side_px <= largest_px
        ),
        *(Recipe(codec="mjpeg", short_side_px=side) for side in sides[2:]),
        *(Recipe(short_side_px=side, gop=gop) for side in sides[2:] for gop in _GOPS),
    ]
    return list(dict.fromkeys(recipes))


def name_of(recipe: Recipe) -> str:
    """A short name, different for each candidate."""
    if recipe.short_side_px is None:
        return recipe.codec
    gop = "" if recipe.gop is None else f" gop {recipe.gop}"
    return f"{recipe.codec}{gop} ≤{recipe.short_side_px}"


def options_of(recipe: Recipe) -> list[str]:
    """The options of `tb shard` that give this recipe."""
    words = ["--recipe", recipe.codec]
    if recipe.gop is not None:
        words += ["--gop", str(recipe.gop)]
    if recipe.short_side_px is not None:
        words += ["--short-side", str(recipe.short_side_px)]
    return words


def _useful_sides(spec: ViewSpec) -> list[int]:
    """Short sides, ascending, each larger than the one before by the same factor.

    A crop keeps a share of the picture's sides and is scaled to `size_px`. With the first short
    side, the largest crop has exactly this size, and smaller crops are enlarged. With the last
    one, no crop is enlarged. Sides are rounded up to what codecs allow.
    """
    scales = [augment.crop_scale for augment in spec.augments]
    least = spec.size_px / max(high for _, high in scales)
    most = spec.size_px / min(low for low, _ in scales)
    if least > MAX_SHORT_SIDE_PX:
        raise InputError(
            f"size is {spec.size_px} px (--size), but the short side of a stored picture has at"
            f" most {MAX_SHORT_SIDE_PX}: give a smaller size"
        )
    return [_allowed(side) for side in np.geomspace(least, most, _NUM_SIDES).tolist()]


def _allowed(side_px: float) -> int:
    """The side, rounded up to one that h264 and mjpeg may store."""
    step = math.ceil(side_px / STEP_PX) * STEP_PX
    return min(max(step, CODECS["h264"].min_side_px), MAX_SHORT_SIDE_PX)
