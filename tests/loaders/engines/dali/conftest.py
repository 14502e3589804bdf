"""Fixtures: the same few videos in every codec, and the devices."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from loaders.engines.dali.nvdec import GPU_CODECS
from loaders.plan import stage_views
from loaders.plan.views import ViewSpec
from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.loaders.engines.test_parity import EVERYTHING
from tests.made_once import made_once
from tests.make_videos import make_video

GPU = pytest.param("cuda", marks=pytest.mark.gpu)


NUM_VIDEOS = 7


Shards = Callable[[str], Manifest]


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU, and the GPU if there is one."""
    return str(request.param)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Codec -> the same few videos in that codec: three sizes, some short, one tagged BT.709."""

    def videos(codec: str, ending: str) -> Path:
        def make(root: Path) -> None:
            sizes = [(144, 176, 80), (144, 176, 40), (176, 144, 9), (160, 160, 70), (144, 176, 66)]
            tags = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
            for seed in range(NUM_VIDEOS):
                height, width, num_frames = sizes[seed % len(sizes)]
                make_video(
                    root / "ab"[seed % 2] / f"v{seed}.{ending}",
                    num_frames=num_frames,
                    height=height,
                    width=width,
                    codec=codec,
                    seed=seed,
                    options=tags if seed == 1 else None,
                )

        return made_once(tmp_path_factory, f"dali-{ending}-videos", make)

    def make(root: Path, codec: str) -> None:
        source = videos("mpeg4", "avi") if codec == "mpeg4" else videos("libx264", "mp4")
        recipe = Recipe(codec="copy") if codec == "mpeg4" else Recipe(codec=codec)
        ingest(from_folder(source, min_per_class=1), root / "shards", recipe=recipe)

    @cache
    def made(codec: str) -> Manifest:
        root = made_once(tmp_path_factory, f"dali-{codec}", lambda root: make(root, codec))
        return read_manifest(root / "shards")

    return made


@pytest.fixture(scope="module")
def tiny() -> ViewSpec:
    """Small pretraining views with every operation in them."""
    return stage_views.pretrain(num_frames=4, size_px=16, num_slices=2, augment=EVERYTHING)


def skip_undecoded(codec: str, device: str) -> None:
    """Skips the test if DALI does not decode the codec on that device."""
    if device == "cuda" and codec not in GPU_CODECS:
        pytest.skip(f"DALI does not decode {codec} on a GPU")
