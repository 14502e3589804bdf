"""Small sets of real videos and their shards, made once per session; treat them as read-only."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.recipes import recipe_shards as recipe_shards
from tests.shards.helpers import make_set

_SHARED = Path(__file__).parents[2] / ".." / "shared"


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five videos of 20 frames, 96 x 128."""
    return make_set(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def manifest(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The same as shards; several of them."""
    out = tmp_path_factory.mktemp("shards")
    ingest(from_folder(videos), out, shard_bytes=100_000)
    return read_manifest(out)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path of material that lies beside the checkout; skips the test where it does not."""

    def find(name: str) -> Path:
        path = _SHARED / name
        if not path.exists():
            pytest.skip(f"no {name} beside the checkout")
        return path.resolve()

    return find
