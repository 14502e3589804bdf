"""Shards of generated videos, made once per session."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loaders import Loader, open_loader
from loaders.engines.engine import EngineName
from loaders.loader_process import process as process_module
from loaders.loader_process.process import LoaderProcess, shared_process
from loaders.placement import Making
from loaders.plan.planner import Planner
from loaders.plan.stage_views import finetune, pretrain
from loaders.plan.views import ViewSpec
from loaders.producer import Producer
from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.loaders.columns import without_index
from tests.made_once import made_once
from tests.make_videos import make_video
from tests.numbered import numbered_paint
from tests.recipes import recipe_shards as recipe_shards

REAL_VIDEOS = Path(__file__).resolve().parents[3] / "shared" / "videos"


@pytest.fixture(autouse=True)
def close_loaders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes what a test leaves open, so that no thread of one test ends during another."""
    opened: list[Loader] = []
    made = Loader.__init__

    def recorded(self: Loader, **options: Any) -> None:
        made(self, **options)
        opened.append(self)

    monkeypatch.setattr(Loader, "__init__", recorded)
    yield
    for loader in opened:
        loader.close()


@pytest.fixture(scope="session")
def kept_process() -> LoaderProcess:
    """One loader process for all tests, so that not every loader starts one."""
    return shared_process()


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> LoaderProcess:
    """The loader process of the test, which no other test has used."""
    monkeypatch.setattr(process_module, "_shared", None)
    return shared_process()


@pytest.fixture(params=["threads here", "loader process"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the loaders of a test work, unless the test gives `in_process`."""
    where: str = request.param
    if where == "loader process":
        request.getfixturevalue("kept_process")

        opened = Making.open

        def opened_beside(making: Making, planner: Planner, engine: EngineName) -> Producer:
            if making.in_process is None:
                making = replace(making, in_process=False)
            return opened(making, planner, engine)

        monkeypatch.setattr(Making, "open", opened_beside)
    return where


@pytest.fixture(params=["windows", "whole files"])
def read_as(request: pytest.FixtureRequest) -> Callable[[Manifest], Manifest]:
    """Turns a manifest into one of the same set that is read by windows or as whole files."""
    return without_index if request.param == "whole files" else lambda manifest: manifest


@pytest.fixture(scope="session")
def compiled_engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The engine `fused` is compiled: by one process of the tests, and the others find its code."""

    def make(root: Path) -> None:
        make_video(root / "videos" / "a" / "v.mp4", num_frames=2, height=32, width=32)
        ingest(from_folder(root / "videos", min_per_class=1), root / "shards")
        with open_loader(
            *(root / "shards", finetune(num_frames=2, size_px=16)),
            batch_size=1,
            engine="fused",
            in_process=True,
        ) as loader:
            next(iter(loader))

    made_once(tmp_path_factory, "compiled-engine", make)


@pytest.fixture(scope="session")
def numbered_shards(tmp_path_factory: pytest.TempPathFactory, compiled_engine: None) -> Manifest:
    """11 short videos of 2 classes in several shards; every frame shows its number."""

    def make(root: Path) -> None:
        lengths = {"left": [1, 5, 16, 33, 64, 70], "right": [9, 20, 40, 64, 90]}
        for name, class_lengths in lengths.items():
            for index, num_frames in enumerate(class_lengths):
                height, width = (96, 128) if index % 2 else (128, 96)
                make_video(
                    root / "videos" / name / f"{name}_{index}.mp4",
                    num_frames=num_frames,
                    height=height,
                    width=width,
                    paint=numbered_paint(height, width),
                )
        ingest(from_folder(root / "videos"), root / "shards", shard_bytes=12_000)

    return read_manifest(made_once(tmp_path_factory, "numbered", make) / "shards")


@pytest.fixture(scope="session")
def textured_shards(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """3 videos with texture and motion, in sizes of real sets; one is short."""

    def make(root: Path) -> None:
        sizes = [(240, 320, 80), (320, 240, 30), (144, 176, 70)]
        for seed, (height, width, num_frames) in enumerate(sizes):
            make_video(
                root / "videos" / "pattern" / f"{height}x{width}.mp4",
                num_frames=num_frames,
                height=height,
                width=width,
                seed=seed,
            )
        ingest(from_folder(root / "videos"), root / "shards")

    return read_manifest(made_once(tmp_path_factory, "textured", make) / "shards")


@pytest.fixture(scope="session")
def tiny_views() -> ViewSpec:
    """The pretraining views, as small as possible."""
    return pretrain(num_frames=4, size_px=16, num_slices=2)


def _real_shards(factory: pytest.TempPathFactory, folder: str, recipe: Recipe) -> Manifest:
    if not REAL_VIDEOS.is_dir():
        pytest.skip(f"no real clips in {REAL_VIDEOS}")

    def make(root: Path) -> None:
        for name in ("ucf101", "hmdb51", "kinetics400"):
            for path in sorted((REAL_VIDEOS / name).rglob("*.*")):
                (root / "videos" / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, root / "videos" / name / path.name)
        ingest(from_folder(root / "videos"), root / "shards", recipe=recipe)

    return read_manifest(made_once(factory, folder, make) / "shards")


@pytest.fixture(scope="session")
def real_shards(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Clips of public data sets, as `tb shard` stores them."""
    return _real_shards(tmp_path_factory, "real", Recipe(max_seconds=4))


@pytest.fixture(scope="session")
def real_shards_copied(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The same clips, not encoded again: MPEG-4 with packed B-frames, H.264 with B-frames."""
    return _real_shards(tmp_path_factory, "copied", Recipe(codec="copy"))
