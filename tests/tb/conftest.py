"""A few of the demo's videos as shards, and settings under which a step is quick."""

import shutil
from pathlib import Path

import pytest

from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.demo.videos import DemoSize, write_demo_videos
from tb.method.similarity_cache import SIMILARITY
from tb.stage_kinds import FINETUNED, Teacher
from tests.made_once import made_once

QUICK = (
    # Most tests are about something else, and a process for each run would take time.
    "machine.in_process=true",
    "labels.percent=50",
    "pretrain.clips.size_px=16",
    "pretrain.clips.num_frames=4",
    "pretrain.optim.steps=4",
    "pretrain.optim.batch_size=2",
    "classify.clips.size_px=16",
    "classify.clips.num_frames=4",
    "finetune.optim.steps=6",
    "finetune.optim.batch_size=4",
    "student.init=scratch",
    "student.optim.steps=6",
    "student.optim.batch_size=4",
    "evaluation.num_clips=2",
    "machine.checkpoint_steps=2",
)


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """24 train and 12 test videos of the demo's 12 classes."""

    def make(root: Path) -> None:
        size = DemoSize(train=2, test=1)
        write_demo_videos(root / "videos", size=size, seed=0, progress=lambda done, total: None)
        ingest(from_folder(root / "videos", min_per_class=1), root / "shards")

    return read_manifest(made_once(tmp_path_factory, "demo-videos", make) / "shards")


@pytest.fixture(scope="session")
def config() -> Config:
    """The demo's settings, cut down."""
    return load_config("demo", QUICK)


@pytest.fixture(scope="session")
def finished(manifest: Manifest, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which every stage has run; treat it as read-only."""
    from tb.workflow.run import run_all

    return made_once(tmp_path_factory, "finished", lambda work: run_all(manifest, config, work))


@pytest.fixture
def taught(finished: Path, tmp_path: Path) -> Path:
    """A work folder with all teachers and the scores, for another student."""
    folder = tmp_path / "work"
    folder.mkdir()
    for stage in (*(teacher.pretrained for teacher in Teacher), *FINETUNED):
        (folder / stage).symlink_to(finished / stage)
    shutil.copy(finished / SIMILARITY, folder)
    return folder


@pytest.fixture
def many_labels(manifest: Manifest, tmp_path: Path) -> Config:
    """Both videos of ten classes have labels, the four of two classes have none."""
    rows = [row for row in manifest.indices("train") if manifest.labels[row] < 10]
    path = tmp_path / "labelled.txt"
    path.write_text("".join(f"{manifest.keys[row]}\n" for row in rows))
    return load_config("demo", [*QUICK, f"labels.file={path}", "student.teachers=calibrated"])
