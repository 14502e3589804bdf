"""The runs behind a table. Any number of runners share the grid, and each run happens once.

    OUT/seed-0/pretrain/{invariant,distinctive,...}     labels unused: once for each seed
    OUT/seed-0/labels-10/{invariant -> ../pretrain/invariant, ..., finetune-*, supervised, ROW}
    OUT/done/UNIT.json                                  the finding of a finished unit

A unit is one stage: trained and, if it is a classifier, evaluated. A runner takes the first unit
that is not done, needs no unfinished unit, and is not locked. So runners share only OUT, and the
unit of a killed runner is free again. The seed of a run seeds the choice of labels, the networks
and the loaders.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from shards.errors import InputError
from shards.files.lock import BusyError, locked
from shards.files.path_kinds import is_file
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.config.sections import Config, Machine
from tb.evaluation.accuracy import Evaluation, evaluation_from
from tb.evaluation.evaluate import evaluate
from tb.method.baselines import check_baseline
from tb.method.run_settings import label_settings
from tb.named_paths import make_named_folder
from tb.stage_kinds import FINETUNED, SELF_SUPERVISED, StageKind
from tb.tables.published import TableRow
from tb.training.metrics import METRICS, read_metrics
from tb.training.world import world_from
from tb.weights.checkpoint import file_digest
from tb.workflow.children import child_pool
from tb.workflow.run import run_stage

logger = logging.getLogger(__name__)

_WAIT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One stage of the grid.

    Attributes:
        work: Its work folder, relative to OUT.
        kind: The stage.
        name: Its folder in `work`.
        config: Its settings.
        needs: Keys of the units that must be done before it.
    """

    work: str
    kind: StageKind
    name: str
    config: Config
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name within the grid, e.g. "seed-0/labels-10/student"."""
        return f"{self.work}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a unit, the content of OUT/done/UNIT.json.

    Attributes:
        source: Digest of the settings and data that it depends on.
        seconds: Time of its training.
        step_s: Median time of a step.
        evaluation: Its accuracy; None for a self-supervised stage.
    """

    source: str
    seconds: float
    step_s: float
    evaluation: Evaluation | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A place in the table, and the unit whose accuracy it shows."""

    row: TableRow
    percent: float
    seed: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All units, in an order in which they can run, and the table's cells."""

    units: tuple[Unit, ...]
    cells: tuple[Cell, ...]


def make_grid(
    rows: Sequence[TableRow],
    presets: dict[float, str],
    *,
    num_seeds: int,
    overrides: Sequence[str] = (),
) -> Grid:
    """The grid of some rows of a table.

    Args:
        rows: The rows.
        presets: Percentage of labels -> preset.
        num_seeds: Seeds 0, 1, ... of every cell.
        overrides: Settings for all runs, as `--set` takes them.

    Raises:
        InputError: As in `load_config`, or a baseline cannot run with these settings.
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
    units: dict[str, Unit], kind: StageKind, name: str, config: Config, place: tuple[str, str]
) -> Unit:
    """Adds a unit after all units that it needs; the same unit is added only once."""
    check_baseline(kind, config)
    pretrain, labels = place
    needed = kind.needs(config.student.teachers, config.student.init)
    unit = Unit(
        work=labels if kind.is_classifier else pretrain,
        kind=kind,
        name=name,
        config=config,
        needs=tuple(_add(units, other, other.value, config, place).key for other in needed),
    )
    return units.setdefault(unit.key, unit)


def run_grid(grid: Grid, manifest: Manifest, out: Path, *, jobs: int = 1) -> None:
    """Runs units until all are done, by this runner or others.

    Args:
        grid: The grid.
        manifest: The data set.
        out: The grid's folder.
        jobs: Runners on this machine. With more than one, the calling script needs an
            `if __name__` guard.

    Raises:
        InputError: OUT holds units of other settings or data; or this is one of several processes
            that torchrun or srun started.
        TrainingError: A run failed; the progress of the others is kept.
    """
    if world_from(os.environ).size > 1:
        raise InputError(
            "a grid shares its runs among runners, not each run among processes: start one "
            "`tb reproduce` on each machine, without torchrun, with --jobs its number of GPUs"
        )
    for unit in grid.units:
        _finding(unit, manifest, out)  # refuses units of another grid before any work
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
    """Runs a unit, unless another runner has it; returns whether it ran."""
    lock = out / "locks" / f"{unit.key.replace('/', '.')}.lock"
    make_named_folder(lock.parent, "out")
    try:
        with locked(lock, f"{unit.key}: another runner has it"):
            if _finding(unit, manifest, out) is None:
                logger.info(unit.key)
                _run(unit, manifest, out)
    except BusyError:
        return False
    return True


def _run(unit: Unit, manifest: Manifest, out: Path) -> None:
    work = out / unit.work
    if unit.kind.is_classifier:
        _link_pretrained(work)
    started_s = time.monotonic()
    run_stage(unit.kind, manifest, unit.config, work, name=unit.name)
    finding = Finding(
        source=unit_source(unit, manifest),
        seconds=round(time.monotonic() - started_s, 1),
        step_s=median(row["step_s"] for row in read_metrics(work / unit.name / METRICS)),
        evaluation=(
            evaluate(unit.name, manifest, unit.config, work) if unit.kind.is_classifier else None
        ),
    )
    _done(unit, out).parent.mkdir(exist_ok=True)
    publish_bytes(_done(unit, out), (json.dumps(asdict(finding), indent=1) + "\n").encode())


def _link_pretrained(work: Path) -> None:
    """Links a seed's pretrained networks into the folder of one share of labels."""
    work.mkdir(parents=True, exist_ok=True)
    for kind in SELF_SUPERVISED:
        link = work / kind
        try:
            link.symlink_to(Path("..") / "pretrain" / kind)
        except FileExistsError:
            continue


def _done(unit: Unit, out: Path) -> Path:
    return out / "done" / f"{unit.key.replace('/', '.')}.json"


def unit_source(unit: Unit, manifest: Manifest) -> str:
    """Digest of the settings that can change the unit's result, and of the data.

    A file that the settings name counts by its content, not by its path.
    """
    config = unit.config
    settings = config.model_dump(mode="json", exclude=_irrelevant(unit))
    settings["labels"] = [config.labels.split, config.labels.split_number]
    if unit.kind.is_classifier:
        settings["labels"].append(label_settings(config))
    start = config.student.init_file
    if "student" in settings and start is not None:
        if not is_file(start):
            raise InputError(f"{start}: no such file; give another student.init")
        settings["student"]["init"] = file_digest(start)
    text = json.dumps([unit.kind, settings, manifest.digest], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _irrelevant(unit: Unit) -> dict[str, Any]:
    """The settings that cannot change the unit's result, so that tables can share it."""
    others: dict[str, Any] = {}
    if not unit.kind.is_classifier:
        sections = ["classify", "finetune", "student", "baselines", "evaluation"]
        others = dict.fromkeys(sections, True)
    elif unit.kind in FINETUNED:
        others = dict.fromkeys(["student", "baselines"], True)
    elif unit.kind != StageKind.MEAN_TEACHER:
        others = {"baselines": {"rampup_share", "late_ema_decay"}}
    kept = {
        *("seed", "order", "engine", "dali_views", "num_threads"),
        *("amp", "compile", "compile_mode", "sync_bn"),
    }
    machine = set(Machine.model_fields) - kept
    return {"machine": machine, **others}


def _finding(unit: Unit, manifest: Manifest, out: Path) -> Finding | None:
    """The finding of a unit; None if it is not done, InputError for other settings or data.

    A classifier whose folder was deleted is not done, because a table needs its predictions.
    """
    path = _done(unit, out)
    if not path.is_file() or (unit.kind.is_classifier and not (out / unit.key).is_dir()):
        return None
    tree = json.loads(path.read_text())
    evaluation = evaluation_from(tree.pop("evaluation") or {})
    finding = Finding(**tree, evaluation=evaluation)
    is_old = unit.kind.is_classifier and evaluation is None
    if is_old or finding.source != unit_source(unit, manifest):
        raise InputError(
            f"{path}: made with other settings or data; choose another --out, or delete {out}"
        )
    return finding


def findings(grid: Grid, manifest: Manifest, out: Path) -> dict[str, Finding]:
    """The findings of the units that are done, by key."""
    found = {unit.key: _finding(unit, manifest, out) for unit in grid.units}
    return {key: finding for key, finding in found.items() if finding is not None}
