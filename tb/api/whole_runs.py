"""The demo and the paper's tables: many stages in one call."""

from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import InputError
from tb.named_paths import disk_errors_named

if TYPE_CHECKING:
    from shards.format.manifest import Manifest
    from tb.config.differences import Tree
    from tb.tables.reproduce import Reproduction


@disk_errors_named
def run_demo(
    out: Path | str, *, size: str = "small", seed: int = 0, world: str = "objects"
) -> "Tree":
    """`tb demo`: made-up videos through the whole method; returns the content of OUT/result.json.

    Args:
        out: The folder for everything, made if missing.
        size: "tiny", "small" or "medium".
        seed: Seeds the videos and the training.
        world: "objects" or "places", see `tb.demo.worlds`.
    """
    from tb.demo import demo

    return demo.run_demo(Path(out), size=size, seed=seed, world=world)


@disk_errors_named
def reproduce(
    wanted: "Reproduction", *, out: Path | str, shards: Path | str | None = None, jobs: int = 1
) -> Path:
    """`tb reproduce`: trains and evaluates every row of a table of the paper.

    Args:
        wanted: The table, as in Reproduction(table="main", dataset="ucf101", seeds=3).
        out: The folder of all runs; several runners may share it.
        shards: The data set; the demo makes its own.
        jobs: Runs side by side on this machine.

    Returns:
        OUT/results.md, with our numbers beside the published ones.
    """
    manifest = _table_manifest(wanted, shards, Path(out))
    kinds = _class_kinds(wanted, list(manifest.classes))
    name = None if shards is None else "SHARDS"
    return wanted.run(manifest, Path(out), jobs=jobs, class_kinds=kinds, shards=name)


def reproduce_cost(
    wanted: "Reproduction", *, out: Path | str, shards: Path | str | None = None
) -> str:
    """`tb reproduce --dry-run`: the runs that `reproduce` would make, and their hours, as text."""
    return wanted.cost(_table_manifest(wanted, shards, Path(out)), Path(out))


def _table_manifest(wanted: "Reproduction", shards: Path | str | None, out: Path) -> "Manifest":
    from shards.format.manifest import read_manifest

    wanted.grid()  # refuses unknown options before the demo's videos are made
    if shards is not None:
        return read_manifest(shards)
    if not wanted.is_demo:
        raise InputError(
            f"shards is missing (--shards): shard the set first, as in `tb shard {wanted.dataset}`"
        )
    from tb.demo.demo import demo_shards

    return demo_shards(out, size="small", seed=0)


def _class_kinds(wanted: "Reproduction", classes: list[str]) -> dict[str, list[int]]:
    """The class indices of the demo's two kinds of classes; empty for other sets."""
    from tb.demo.worlds import MOTION_CLASSES

    if not wanted.is_demo:
        return {}
    kinds: dict[str, list[int]] = {"appearance": [], "motion": []}
    for label, name in enumerate(classes):
        kinds["motion" if name in MOTION_CLASSES else "appearance"].append(label)
    return kinds
