"""`tb reproduce`: a table of the paper, from the request to the page of results."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.errors import InputError
from shards.files.path_kinds import is_file
from shards.format.manifest import Manifest
from tb.config.load_config import load_config, preset_names
from tb.tables import results
from tb.tables.claims import compare, compare_parts, hits_of
from tb.tables.cost import cost_table
from tb.tables.grid import Grid, findings, make_grid, run_grid
from tb.tables.parts import write_parts
from tb.tables.published import BACKBONES, PERCENTS, TABLES, TableRow


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A table on a data set; the attributes are the options of `tb reproduce`.

    Attributes:
        table: "main", "table1" or "table2".
        dataset: A set of the paper, "demo", or the preset of another set.
        backbone: "r50" or "r18", for the sets of the paper.
        rows: Names of the rows to run. None: all that are not `only_named`.
        percents: Percentages of labels. None: the paper's, or the preset's.
        seeds: Seeds 0, 1, ... of every row.
        overrides: Settings for all runs, as `--set` takes them.
    """

    table: str
    dataset: str = "demo"
    backbone: str = "r50"
    rows: tuple[str, ...] | None = None
    percents: tuple[float, ...] | None = None
    seeds: int = 1
    overrides: tuple[str, ...] = ()

    @property
    def is_demo(self) -> bool:
        """Whether it runs on the demo's videos, which are made where they are missing."""
        return self.dataset == "demo"

    def grid(self) -> Grid:
        """Its runs; InputError where an option is unknown."""
        return make_grid(
            self._rows(), self._presets(), num_seeds=self.seeds, overrides=self.overrides
        )

    def cost(self, manifest: Manifest, out: Path) -> str:
        """What is left to run in `out`, and how long that would take, as text."""
        return cost_table(self.grid(), manifest, out)

    def run(
        self,
        manifest: Manifest,
        out: Path,
        *,
        jobs: int,
        class_kinds: Mapping[str, Sequence[int]],
        shards: str | None,
    ) -> Path:
        """Runs what is left, and writes OUT/results.md, .html and .png; returns the first.

        If the rows show what a part of the method brings, writes OUT/parts.md and .png too.

        Args:
            manifest: The data set.
            out: The folder of all runs.
            jobs: Runs side by side on this machine.
            class_kinds: As in `tb.tables.claims.compare`.
            shards: The name of the data set in the command on the pages. None: the demo's own.
        """
        grid = self.grid()
        run_grid(grid, manifest, out, jobs=jobs)
        found = findings(grid, manifest, out)
        evaluations = results.by_cell(grid.cells, found)
        notes = results.notes(evaluations, manifest)
        command = shlex.join(["tb", *self.words(shards=shards, out="OUT")])
        hits = hits_of(grid.cells, found, out)
        (path, *_) = results.write_results(
            out,
            title=f"{self.table} on {self.dataset}",
            notes=notes,
            rows=results.table(self._rows(), evaluations, self.dataset, self.backbone),
            comparisons=compare(self._rows(), hits, class_kinds),
            command=command,
        )
        if parts := compare_parts(self._rows(), hits):
            title = f"What each part brings: {self.dataset}"
            write_parts(out, title=title, notes=notes, parts=parts, command=command)
        return path

    def _rows(self) -> tuple[TableRow, ...]:
        if self.table not in TABLES:
            raise InputError(f"no table {self.table!r}: choose one of {', '.join(TABLES)}")
        rows = TABLES[self.table]
        if self.rows is None:
            return tuple(row for row in rows if not row.only_named)
        known = [row.name for row in rows]
        for name in self.rows:
            if name not in known:
                raise InputError(
                    f"rows (--rows): {self.table} has no row {name!r}; choose from"
                    f" {', '.join(known)}"
                )
        return tuple(row for row in rows if row.name in self.rows)

    def _presets(self) -> dict[float, str]:
        """Percentage of labels -> preset."""
        dataset, wanted = self.dataset, self.percents
        if dataset not in PERCENTS:
            if self.backbone != Reproduction.backbone:
                raise InputError(
                    f"backbone (--backbone) is {self.backbone!r}, but the preset of {dataset!r}"
                    " names its own; leave it out, or choose with --set backbone=..."
                )
            percent = load_config(self._own_preset()).labels.percent
            return dict.fromkeys(wanted or (percent,), dataset)
        if self.backbone not in BACKBONES:
            raise InputError(
                f"backbone (--backbone) is {self.backbone!r}: choose one of {', '.join(BACKBONES)}"
            )
        presets = {p: f"{dataset}_{self.backbone}_{p:g}p" for p in PERCENTS[dataset]}
        for percent in wanted or ():
            if percent not in presets:
                known = ", ".join(f"{p:g}" for p in presets)
                raise InputError(
                    f"percents (--percents) has {percent:g}, but {dataset} has only {known}"
                )
        return {p: presets[p] for p in wanted or presets}

    def _own_preset(self) -> str:
        if self.dataset not in preset_names() and not is_file(Path(self.dataset)):
            known = [*PERCENTS, *(name for name in preset_names() if "_" not in name)]
            raise InputError(
                f"dataset (--dataset) is {self.dataset!r}: choose one of {', '.join(known)}, or"
                " give a preset's file"
            )
        return self.dataset

    def words(self, *, shards: str | None, out: str) -> list[str]:
        """The words of its command line after `tb`.

        Args:
            shards: The data set. None: the demo's own.
            out: The folder of all runs.
        """
        words = ["reproduce", self.table, "--dataset", self.dataset, "--seeds", str(self.seeds)]
        words += [] if shards is None else ["--shards", shards]
        # The preset of another set names its backbone itself.
        words += ["--backbone", self.backbone] if self.dataset in PERCENTS else []
        words += [] if self.rows is None else ["--rows", ",".join(self.rows)]
        if self.percents is not None:
            words += ["--percents", ",".join(f"{p:g}" for p in self.percents)]
        for text in self.overrides:
            words += ["--set", text]
        return [*words, "--out", out]
