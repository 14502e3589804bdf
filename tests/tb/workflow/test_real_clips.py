"""Real clips (MPEG-4 AVI, H.264; several sizes and rates) through shards, loader and one step."""

from pathlib import Path

import numpy as np
import pytest

from loaders import open_loader
from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.load_config import load_config
from tb.method.streams import pretrain_views
from tb.reports.view_sheet import write_view_sheet
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint
from tb.workflow.run import run_stage
from tests.paired import paired
from tests.tb.conftest import QUICK

_VIDEOS = Path(__file__).resolve().parents[4] / "shared" / "videos"
pytestmark = pytest.mark.skipif(not _VIDEOS.is_dir(), reason="the real clips are not here")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The start of 11 UCF101 clips, 2 of HMDB51 and 2 of Kinetics-400 in five class folders."""
    root = tmp_path_factory.mktemp("real")
    sources = {path.name: path for path in (_VIDEOS / "ucf101").iterdir()}
    sources |= {"wave": _VIDEOS / "hmdb51" / "wave", "kinetics": _VIDEOS / "kinetics400"}
    for name, source in sources.items():
        (root / "videos" / name).mkdir(parents=True)
        for path in source.iterdir():
            (root / "videos" / name / path.name).write_bytes(path.read_bytes())
    data = from_folder(root / "videos", min_per_class=1)
    ingest(data, root / "shards", recipe=Recipe(max_seconds=3))
    return read_manifest(root / "shards")


def test_shards_keep_several_sizes_and_rates(clips: Manifest) -> None:
    assert len(clips) == 15
    assert len(set(zip(clips.heights.tolist(), clips.widths.tolist(), strict=True))) > 1
    assert len(set(np.round(clips.fps, 2).tolist())) > 1


def test_loader_shows_pictures(clips: Manifest) -> None:
    loader = open_loader(clips, "pretrain", size_px=64, batch_size=5)
    for (batch,) in paired(loader.batches(0)):
        assert batch.views["short"].shape == (5, 2, 4, 3, 16, 64, 64)
        spread = batch.views["long"].flatten(1).std(dim=1)
        assert (spread > 0.05).all()


def test_contact_sheet_and_one_training_step(clips: Manifest, tmp_path: Path) -> None:
    config = load_config("demo", [*QUICK, "pretrain.optim.steps=1"])
    write_view_sheet(clips, config, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    run_stage("distinctive", clips, config, tmp_path)
    assert load_checkpoint(tmp_path / "distinctive" / CHECKPOINT)["step"] == 1
    assert pretrain_views(config).num_views == 10
