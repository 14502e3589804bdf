"""`tb reproduce`: the paper's tables, run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.errors import InputError

if TYPE_CHECKING:
    from shards.format.manifest import Manifest
    from tb.tables.published import Row

DEMO = "demo"


def reproduce_command(
    table: Annotated[str, typer.Argument(help="main, table1 or table2.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; several runners may share it.")],
    dataset: Annotated[
        str,
        typer.Option(help="ucf101, hmdb51, kinetics400, demo, or a preset of your own set."),
    ] = DEMO,
    shards: Annotated[
        str | None, typer.Option(help="Finished shards; the demo makes its own.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="r50 or r18, for the paper's sets.")] = "r50",
    rows: Annotated[str | None, typer.Option(help="Only these rows: names, with commas.")] = None,
    percents: Annotated[
        str | None, typer.Option(help="Only these percentages of labels, with commas.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds 0, 1, ... of every row.", min=1)] = 1,
    jobs: Annotated[int, typer.Option(help="Runs side by side on this machine.", min=1)] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what it would cost.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting for all runs; repeatable.")
    ] = None,
) -> None:
    """Train and evaluate every row of a table of the paper; print ours beside the published.

    Run it again after an interruption, or on further machines with the same --out: no row runs
    twice. --percents, --rows and --seeds may grow later; what is done is kept.
    """
    from tb.tables import results
    from tb.tables.cost import cost_table
    from tb.tables.grid import findings, make_grid, run_grid
    from tb.tables.published import TABLES

    chosen = _rows(TABLES, table, rows)
    presets = _presets(dataset, backbone, percents)
    manifest = _manifest(dataset, shards, out)
    grid = make_grid(chosen, presets, num_seeds=seeds, overrides=set_ or [])
    if dry_run:
        typer.echo(cost_table(grid, manifest, out))
        return
    run_grid(grid, manifest, out, jobs=jobs)
    top1 = results.by_cell(grid.cells, findings(grid, manifest, out))
    (path, *_) = results.write_results(
        out,
        title=f"{table} on {dataset}",
        facts=results.facts(top1, manifest),
        lines=results.table(chosen, top1, dataset, backbone),
        comparisons=results.claims(top1, _kinds(dataset, list(manifest.classes))),
        command=_command(table, dataset, backbone, rows, percents, seeds, set_ or []),
    )
    typer.echo(path.read_text())
    typer.echo(path)


def _command(
    table: str,
    dataset: str,
    backbone: str,
    rows: str | None,
    percents: str | None,
    seeds: int,
    overrides: list[str],
) -> str:
    """The command line that gives the same result anywhere."""
    words = ["tb", "reproduce", table, "--dataset", dataset, "--seeds", str(seeds)]
    words += [] if dataset == DEMO else ["--shards", "SHARDS", "--backbone", backbone]
    words += [] if rows is None else ["--rows", rows]
    words += [] if percents is None else ["--percents", percents]
    for text in overrides:
        words += ["--set", text]
    return shlex.join([*words, "--out", "OUT"])


def _rows(tables: "dict[str, tuple[Row, ...]]", table: str, names: str | None) -> "tuple[Row, ...]":
    if table not in tables:
        raise InputError(f"no table {table!r}: choose one of {', '.join(tables)}")
    rows = tables[table]
    if names is None:
        return rows
    wanted = names.split(",")
    known = [row.name for row in rows]
    for name in wanted:
        if name not in known:
            raise InputError(f"--rows {name}: {table} has no such row: {', '.join(known)}")
    return tuple(row for row in rows if row.name in wanted)


def _presets(dataset: str, backbone: str, percents: str | None) -> dict[float, str]:
    """Percentage of labels -> preset."""
    from tb.config.settings import load_config, preset_names
    from tb.tables.published import BACKBONES, PERCENTS

    if dataset in PERCENTS:
        if backbone not in BACKBONES:
            raise InputError(f"--backbone {backbone}: choose one of {', '.join(BACKBONES)}")
        presets = {p: f"{dataset}_{backbone}_{p:g}p" for p in PERCENTS[dataset]}
    elif dataset in preset_names() or Path(dataset).is_file():
        presets = {load_config(dataset).labels.percent: dataset}
    else:
        known = [*PERCENTS, *(name for name in preset_names() if "_" not in name)]
        raise InputError(
            f"--dataset {dataset}: choose one of {', '.join(known)}, or give a preset's file"
        )
    if percents is None:
        return presets
    try:
        wanted = [float(text) for text in percents.split(",")]
    except ValueError:
        raise InputError(f"--percents {percents}: write numbers with commas, as in 5,20") from None
    if dataset not in PERCENTS:
        return dict.fromkeys(wanted, dataset)
    missing = [p for p in wanted if p not in presets]
    if missing:
        known = [f"{p:g}" for p in presets]
        raise InputError(f"--percents {missing[0]:g}: {dataset} has {', '.join(known)}")
    return {p: presets[p] for p in wanted}


def _manifest(dataset: str, shards: str | None, out: Path) -> "Manifest":
    from shards.format.manifest import read_manifest

    if shards is not None:
        return read_manifest(shards)
    if dataset != DEMO:
        raise InputError(f"--shards is missing: shard the set first, as in `tb shard {dataset}`")
    from tb.demo.demo import demo_shards

    return demo_shards(out, size="small", seed=0)


def _kinds(dataset: str, classes: list[str]) -> dict[str, list[int]]:
    """Class indices of the demo's two kinds of classes; empty for other sets."""
    if dataset != DEMO:
        return {}
    from tb.demo.videos import APPEARANCE_CLASSES

    kinds: dict[str, list[int]] = {"appearance": [], "motion": []}
    for label, name in enumerate(classes):
        kinds["appearance" if name in APPEARANCE_CLASSES else "motion"].append(label)
    return kinds
