"""`tb reproduce`: a table's grid of runs, shared by any number of runners, each run once.

    OUT/seed-0/pretrain/{invariant,distinctive,...}     labels unused: once a seed
    OUT/seed-0/labels-10/{invariant -> ../pretrain/invariant, ..., finetune-*, supervised, ROW}
    OUT/done/UNIT.json                                  what a finished unit found

A unit is one trained (and, if it classifies, evaluated) stage. A runner takes the first unit that
is not done, whose needs are, and that nobody else holds the lock of; so runners need to share
nothing but OUT, and a runner that is killed gives its unit back. The seed of a run seeds the choice
of labels, the networks and the loaders.
"""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from shards.errors import InputError
from shards.files.lock import BusyError, locked
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.settings import Config, Machine, Tree, load_config
from tb.method.scores import TEACHERS
from tb.method.stages import SELF_SUPERVISED
from tb.method.teachers import finetuned
from tb.tables.published import Row
from tb.training.distributed import world_from
from tb.workflow.children import child_pool

_WAIT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One stage of the grid.

    Attributes:
        work: Its work folder, relative to OUT.
        kind: The stage, as `tb.workflow.run.run_stage` takes it.
        name: Its folder in `work`.
        config: Its settings.
        needs: Keys of the units that come before it.
    """

    work: str
    kind: str
    name: str
    config: Config
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names it within the grid, e.g. "seed-0/labels-10/student"."""
        return f"{self.work}/{self.name}"

    @property
    def classifies(self) -> bool:
        """Whether it ends in an accuracy."""
        return self.kind not in SELF_SUPERVISED


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A place in the table: the unit whose accuracy stands there."""

    row: Row
    percent: float
    seed: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All units, in an order in which they can run, and the table's cells."""

    units: tuple[Unit, ...]
    cells: tuple[Cell, ...]


def make_grid(
    rows: Sequence[Row],
    presets: dict[float, str],
    *,
    num_seeds: int,
    overrides: Sequence[str] = (),
) -> Grid:
    """The grid of some rows.

    Args:
        rows: Of a table.
        presets: Percentage of labels -> preset.
        num_seeds: Seeds 0, 1, ... of every cell.
        overrides: Settings for all runs.
    """
    units: dict[str, Unit] = {}
    cells = []
    for seed in range(num_seeds):
        for percent, preset in presets.items():
            settings = [
                *overrides,
                f"labels.percent={percent}",
                f"labels.seed={seed}",
                f"machine.seed={seed}",
            ]
            place = (f"seed-{seed}/pretrain", f"seed-{seed}/labels-{percent:g}")
            for row in rows:
                config = load_config(preset, [*settings, *row.overrides])
                unit = _add(units, row.kind, row.name, config, place)
                cells.append(Cell(row=row, percent=percent, seed=seed, unit=unit.key))
    return Grid(units=tuple(units.values()), cells=tuple(cells))


def _add(
    units: dict[str, Unit], kind: str, name: str, config: Config, place: tuple[str, str]
) -> Unit:
    """Adds a unit after all that it needs; the same unit is added once."""
    pretrain, labels = place
    needed: list[str] = []
    if kind.startswith("finetune-"):
        needed = [kind.removeprefix("finetune-")]
    elif kind == "student":
        alone = [t for t in TEACHERS if t == config.student.teachers]
        needed = [finetuned(t) for t in alone or TEACHERS]
    if kind not in SELF_SUPERVISED and not kind.startswith("finetune-") and kind != "supervised":
        needed += [config.student.init] if config.student.init in SELF_SUPERVISED else []
    needs = tuple(_add(units, other, other, config, place).key for other in needed)
    unit = Unit(
        work=pretrain if kind in SELF_SUPERVISED else labels,
        kind=kind,
        name=name,
        config=config,
        needs=needs,
    )
    return units.setdefault(unit.key, unit)


def run_grid(grid: Grid, manifest: Manifest, out: Path, *, jobs: int = 1) -> None:
    """Runs units until all are done, by this runner or others.

    Args:
        grid: What to run.
        manifest: The data set.
        out: The grid's folder.
        jobs: Runners on this machine. With more than one, the calling script needs an
            `if __name__` guard.

    Raises:
        InputError: OUT holds units that other settings or data made; or this is one of several
            processes of torchrun's or srun's.
        TrainingError: A run failed; the others' progress is kept.
    """
    if world_from(os.environ).size > 1:
        raise InputError(
            "a grid shares its runs among runners, not each run among processes: start one "
            "`tb reproduce` on each machine, without torchrun, with --jobs its number of GPUs"
        )
    for unit in grid.units:
        _finding(unit, manifest, out)  # refuses another grid's leftovers before any work
    if jobs == 1:
        _run_units(grid, manifest, out)
        return
    with child_pool(jobs) as pool:
        runners = [pool.submit(_run_units, grid, manifest, out) for _ in range(jobs)]
        for runner in as_completed(runners):
            runner.result()


def _run_units(grid: Grid, manifest: Manifest, out: Path) -> None:
    while True:
        left = [unit for unit in grid.units if _finding(unit, manifest, out) is None]
        if not left:
            return
        waiting = {unit.key for unit in left}
        ready = [unit for unit in left if waiting.isdisjoint(unit.needs)]
        if not any(_try(unit, manifest, out) for unit in ready):
            time.sleep(_WAIT_S)


def _try(unit: Unit, manifest: Manifest, out: Path) -> bool:
    """Runs a unit unless another runner has it; says whether it ran."""
    lock = out / "locks" / f"{unit.key.replace('/', '.')}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(lock, f"{unit.key}: another runner has it"):
            if _finding(unit, manifest, out) is None:
                print(unit.key, flush=True)
                _run(unit, manifest, out)
    except BusyError:
        return False
    return True


def _run(unit: Unit, manifest: Manifest, out: Path) -> None:
    from tb.evaluation.evaluate import evaluate
    from tb.training.metrics import METRICS, read_metrics
    from tb.workflow.run import run_stage

    work = out / unit.work
    if unit.classifies:
        _link_pretrained(work)
    started_s = time.monotonic()
    run_stage(unit.kind, manifest, unit.config, work, name=unit.name)
    finding: Tree = {
        "source": _source(unit, manifest),
        "seconds": round(time.monotonic() - started_s, 1),
        "step_s": median(row["step_s"] for row in read_metrics(work / unit.name / METRICS)),
    }
    if unit.classifies:
        found = evaluate(unit.name, manifest, unit.config, work)
        finding |= {
            "top1": found.top1,
            "top5": found.top5,
            "class_top1": found.class_top1,
            "num_videos": found.num_videos,
            "split": found.split,
        }
    _done(unit, out).parent.mkdir(exist_ok=True)
    publish_bytes(_done(unit, out), (json.dumps(finding, indent=1) + "\n").encode())


def _link_pretrained(work: Path) -> None:
    """Makes a seed's pretrained networks appear in the folder of one share of labels."""
    work.mkdir(parents=True, exist_ok=True)
    for name in SELF_SUPERVISED:
        link = work / name
        try:
            link.symlink_to(Path("..") / "pretrain" / name)
        except FileExistsError:
            continue


def _done(unit: Unit, out: Path) -> Path:
    return out / "done" / f"{unit.key.replace('/', '.')}.json"


def _source(unit: Unit, manifest: Manifest) -> str:
    """Digest of the settings that can change the unit's result, and of the data."""
    facts = unit.config.model_dump(mode="json", exclude=_irrelevant(unit))
    if not unit.classifies:
        facts["labels"] = [unit.config.labels.split, unit.config.labels.split_number]
    text = json.dumps([unit.kind, facts, manifest.digest], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _irrelevant(unit: Unit) -> dict[str, Any]:
    """Settings that cannot change what the unit finds, so that tables can share it."""
    others: list[str] = []
    if not unit.classifies:
        others = ["classify", "finetune", "student", "baselines", "evaluation"]
    elif unit.kind.startswith("finetune-"):
        others = ["student", "baselines"]
    kept = {"seed", "engine", "num_threads", "amp", "compile", "compile_mode", "sync_bn"}
    machine = set(Machine.model_fields) - kept
    return {"machine": machine, **dict.fromkeys(others, True)}


def _finding(unit: Unit, manifest: Manifest, out: Path) -> Tree | None:
    path = _done(unit, out)
    if not path.is_file():
        return None
    finding: Tree = json.loads(path.read_text())
    if finding["source"] != _source(unit, manifest):
        raise InputError(
            f"{path}: made with other settings or data; choose another --out, or delete {out}"
        )
    return finding


def findings(grid: Grid, manifest: Manifest, out: Path) -> dict[str, Tree]:
    """What the units that are done have found, by key."""
    found = {unit.key: _finding(unit, manifest, out) for unit in grid.units}
    return {key: finding for key, finding in found.items() if finding is not None}
