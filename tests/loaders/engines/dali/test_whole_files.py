"""DALI opens whole files by its own rules, so they are checked by ours before it gets them."""

from pathlib import Path

import numpy as np
import pytest

from loaders import LoaderError, open_loader
from loaders.plan.views import ViewSpec
from shards.encode.recipe import Recipe
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.loaders.columns import with_column, without_index
from tests.loaders.engines.dali.conftest import Shards
from tests.make_videos import make_two_streams

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")


def test_a_file_of_another_size_does_not_reach_dali(shards: Shards, tiny: ViewSpec) -> None:
    """A set from a stranger, of which the digests are right."""
    manifest = without_index(shards("vp9"))
    forged = with_column(manifest, "height", (manifest.heights + 16).tolist())
    with (
        open_loader(forged, tiny, engine="dali", device="cpu", batch_size=2) as loader,
        pytest.raises(LoaderError, match=r"a header that says .*, where the manifest has"),
    ):
        next(iter(loader))


@pytest.mark.parametrize("defaults", [(True, False), (False, True)])
@pytest.mark.parametrize("extension", ["mkv", "mp4"])
def test_of_two_streams_the_one_that_was_verified_is_shown(
    extension: str, defaults: tuple[bool, bool], device: str, tmp_path: Path
) -> None:
    path = tmp_path / "videos" / "a" / f"v.{extension}"
    path.parent.mkdir(parents=True)
    make_two_streams(
        path,
        paint=lambda _: np.full((144, 176, 3), 200, np.uint8),  # NVDEC takes VP9 from 128x128
        num_frames=12,
        height=144,
        width=176,
        codec="libvpx-vp9",
        defaults=defaults,
    )
    dataset = from_folder(tmp_path / "videos", min_per_class=1)
    ingest(dataset, tmp_path / "shards", recipe=Recipe(codec="copy"), workers=1)
    for engine in ("fused", "dali"):
        with open_loader(
            tmp_path / "shards", "similarity", size_px=48, engine=engine, device=device
        ) as loader:
            batch = next(iter(loader))
        shown = float(batch.views["clips"][batch.valid].mean()) * 255
        assert shown == pytest.approx(200 if defaults[1] else 0, abs=5)
