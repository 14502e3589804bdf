"""Sets of numbered videos in each recipe that has a packet index."""

from typing import Protocol

from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest

RECIPES = {
    "h264": Recipe(gop=16),
    "h264 gop 5": Recipe(gop=5),
    "hevc": Recipe(codec="hevc", gop=12),
    "vp9": Recipe(codec="vp9", gop=12),
    "mjpeg": Recipe(codec="mjpeg"),
}
LENGTHS = (1, 16, 17, 33, 70)
HEIGHT, WIDTH = 144, 192


class RecipeShards(Protocol):
    """Name of a recipe -> videos of `LENGTHS` in it; every frame shows its number."""

    def __call__(self, recipe: str) -> Manifest: ...
