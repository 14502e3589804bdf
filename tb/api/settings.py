"""Turns a user's arguments into a data set and its settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shards.format.manifest import Manifest
    from tb.config.sections import Config


def resolve(preset: Path | str | None, settings: Sequence[str] = ()) -> "Config":
    """A preset's settings (None: the paper's), overridden by some assignments."""
    from tb.config.load_config import load_config

    return load_config(None if preset is None else str(preset), settings)


def open_work(
    shards: Path | str, out: Path | str, preset: Path | str | None, overrides: Sequence[str]
) -> "tuple[Manifest, Config, Path]":
    """The data set, the settings of the work folder, and its path."""
    from shards.format.manifest import read_manifest
    from tb.config.load_config import work_config

    name = None if preset is None else str(preset)
    return read_manifest(shards), work_config(Path(out), name, overrides), Path(out)
