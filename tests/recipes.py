"""Sets of numbered videos in each recipe that has a packet index."""

from pathlib import Path
from typing import Protocol

import pytest

from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.made_once import made_once
from tests.make_videos import make_video
from tests.numbered import numbered_paint

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


@pytest.fixture(scope="session")
def recipe_shards(tmp_path_factory: pytest.TempPathFactory) -> RecipeShards:
    """The same five videos in each recipe; the fourth is tagged as BT.709."""
    tags = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}

    def made(recipe: str) -> Manifest:
        def make(root: Path) -> None:
            for index, num_frames in enumerate(LENGTHS):
                make_video(
                    root / "videos" / "a" / f"v{index}.mp4",
                    num_frames=num_frames,
                    height=HEIGHT,
                    width=WIDTH,
                    paint=numbered_paint(HEIGHT, WIDTH),
                    options=tags if index == 3 else None,
                )
            source = from_folder(root / "videos")
            ingest(source, root / "shards", recipe=RECIPES[recipe], workers=1)

        folder = f"recipe-{recipe.replace(' ', '-')}"
        return read_manifest(made_once(tmp_path_factory, folder, make) / "shards")

    return made
