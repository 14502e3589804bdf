"""If shards change under a run, it stops with a name or skips videos, and resumes exactly."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loaders import Batch, LoaderError
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.training.bad_videos import read_bad_list
from tb.training.loop import train
from tb.training.metrics import METRICS, read_metrics
from tb.training.stage import Stage
from tb.weights.checkpoint import file_digest
from tests.tb.conftest import QUICK
from tests.tb.steps import watched

# Twelve labelled videos in batches of two: an epoch has six steps. One worker looks two ahead.
SETTINGS = (
    *QUICK,
    "student.optim.batch_size=2",
    "machine.num_workers=1",
    "machine.tensorboard=false",
)


def settings(*more: str) -> Config:
    return load_config("demo", (*SETTINGS, *more))


@pytest.fixture(scope="module")
def sets(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two ingestions of the same videos with another quality; each shard holds one video."""
    root = tmp_path_factory.mktemp("sets")
    source = from_folder(manifest.root.parent / "videos", min_per_class=1)
    for name, quality in (("old", 20), ("new", 30)):
        ingest(source, root / name, recipe=Recipe(quality=quality), shard_bytes=1)
    return root / "old", root / "new"


@pytest.fixture(scope="module")
def undisturbed(sets: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a run that nothing disturbs."""
    stage = supervised_only_stage(read_manifest(sets[0]), settings())
    return file_digest(train(stage, tmp_path_factory.mktemp("whole"), settings()))


def disturbed(stage: Stage, step: int, change: Callable[[], object]) -> Stage:
    """The stage, but something happens at one of its steps."""
    steps = iter(range(stage.optim.steps))

    def disturb(batches: tuple[Batch, ...]) -> None:
        if next(steps) == step:
            change()

    return watched(stage, disturb)


def _delete(shard: Path, newer: Path) -> None:
    shard.unlink()


def _truncate(shard: Path, newer: Path) -> None:
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 8)


def _flip_bits(shard: Path, newer: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[600::50] = bytes(byte ^ 1 for byte in data[600::50])
    shard.write_bytes(data)


def _replace(shard: Path, newer: Path) -> None:
    shutil.copy(newer, shard)


IN_PROCESS = [
    pytest.param("machine.in_process=true", id="threads here"),
    pytest.param("machine.in_process=false", id="loader process", marks=pytest.mark.slow),
]
CHANGES = [
    (_delete, "No such file"),
    (_truncate, "bytes too early"),
    (_flip_bits, "checksum differs"),
    (_replace, "checksum differs|bytes too early"),
]


@pytest.mark.parametrize("in_process", IN_PROCESS)
@pytest.mark.parametrize(("change", "reason"), CHANGES)
def test_a_run_stops_at_a_shard_that_changed_and_goes_on_once_it_is_back(
    sets: tuple[Path, Path],
    undisturbed: str,
    tmp_path: Path,
    change: Callable[[Path, Path], None],
    reason: str,
    in_process: str,
) -> None:
    old, new = sets
    shutil.copytree(old, tmp_path / "shards")
    manifest, config = read_manifest(tmp_path / "shards"), settings(in_process)
    stage = supervised_only_stage(manifest, config)
    video = manifest.video(list(stage.loaders[0].plans(0))[-1].rows[0])
    shard = manifest.root / video.shard
    stage = disturbed(stage, 0, lambda: change(shard, new / video.shard))
    with pytest.raises(LoaderError, match=rf"{video.key} in .*{video.shard}: .*({reason})"):
        train(stage, tmp_path / "work", config)

    shutil.copy(old / video.shard, shard)
    path = train(supervised_only_stage(manifest, config), tmp_path / "work", config)
    assert file_digest(path) == undisturbed


@pytest.mark.parametrize(("change", "reason"), CHANGES)
def test_a_run_that_may_skip_names_the_video_of_a_shard_that_changed(
    sets: tuple[Path, Path], tmp_path: Path, change: Callable[[Path, Path], None], reason: str
) -> None:
    old, new = sets
    shutil.copytree(old, tmp_path / "shards")
    manifest, config = read_manifest(tmp_path / "shards"), settings("machine.on_error=skip")
    stage = supervised_only_stage(manifest, config)
    video = manifest.video(list(stage.loaders[0].plans(0))[-1].rows[0])
    shard = manifest.root / video.shard
    stage = disturbed(stage, 0, lambda: change(shard, new / video.shard))
    path = train(stage, tmp_path / "work", config)
    assert read_bad_list(path.parent).keys() == {video.key}
    assert [row["num_bad"] for row in read_metrics(path.parent / METRICS)] == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_open_shards_serve_a_run_although_their_folder_changes(
    sets: tuple[Path, Path], tmp_path: Path, change: str
) -> None:
    """After the first epoch, every shard is open. A new ingestion is then another data set."""
    old, new = sets
    config = settings("student.optim.steps=12")
    whole = train(supervised_only_stage(read_manifest(old), config), tmp_path / "whole", config)
    root = tmp_path / "shards"
    shutil.copytree(old, root)

    def disturb() -> None:
        root.rename(tmp_path / "away")
        if change == "replaced":
            shutil.copytree(new, root)
        shutil.rmtree(tmp_path / "away")

    stage = disturbed(supervised_only_stage(read_manifest(root), config), 6, disturb)
    path = train(stage, tmp_path / "work", config)
    assert file_digest(path) == file_digest(whole)
    if change == "replaced":
        with pytest.raises(InputError, match="holds a run with other settings: data was"):
            train(supervised_only_stage(read_manifest(root), config), tmp_path / "work", config)
