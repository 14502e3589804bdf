"""The fingerprint of an ingestion: all that decides what the shards hold."""

from dataclasses import replace
from pathlib import Path

from shards.encode.recipe import Recipe
from shards.ingestion.fingerprint import fingerprint
from shards.sources.folder import from_folder
from tests.shards.helpers import pairs, touch


def test_everything_counts_but_the_place_on_disk(tmp_path: Path) -> None:
    for name in ("here", "there"):
        touch(tmp_path / name / "set", *pairs(2, "a", "b"))
    here, there = (from_folder(tmp_path / name / "set") for name in ("here", "there"))
    recipe = Recipe().to_json()
    before = fingerprint(here, recipe, 0, 1000)
    assert fingerprint(there, recipe, 0, 1000) == before
    others = [
        fingerprint(replace(here, classes=("a", "c")), recipe, 0, 1000),
        fingerprint(replace(here, sources=here.sources[1:]), recipe, 0, 1000),
        fingerprint(here, Recipe(quality=30).to_json(), 0, 1000),
        fingerprint(here, recipe, 1, 1000),
        fingerprint(here, recipe, 0, 1001),
    ]
    here.sources[0].path.write_bytes(b"another video")
    others.append(fingerprint(from_folder(tmp_path / "here" / "set"), recipe, 0, 1000))
    assert len({before, *others}) == 1 + len(others)
