"""Finished and unfinished runs, read from their folders, and a plot of several.

A run is a folder with a metrics.jsonl: WORK/STAGE, as `tb train` leaves it.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import yaml

from shards.errors import InputError
from shards.files.path_kinds import is_file, is_folder
from tb.config.differences import Tree, differences
from tb.config.load_config import CONFIG
from tb.method.calibration import Calibration, read_calibration
from tb.named_paths import write_named_file
from tb.training.bad_videos import read_bad_list
from tb.training.metrics import METRICS, MetricsRow, read_metrics, taken
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint

_LAST = 50  # steps over which the last values are averaged
_NOT_FINAL = ("step", "num_padded", "num_bad", "overflowed")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run's folder holds.

    Attributes:
        folder: WORK/STAGE.
        config: Its settings; {} where they are missing.
        rows: One for each step.
        step: Number of steps that are done and saved.
        steps: Number of steps in all; None without a checkpoint.
        results: Split -> the content of its eval-SPLIT.json.
        bad: Key -> reason of each video that was bad in the run.
        calibration: The map from scores to weights of a student with calibrated teachers.
    """

    folder: Path
    config: Tree
    rows: list[MetricsRow]
    step: int
    steps: int | None
    results: dict[str, Tree]
    bad: dict[str, str]
    calibration: Calibration | None

    @property
    def seconds(self) -> float:
        """The time of all steps, including the wait for data, and of validation."""
        return sum(row["step_s"] + row.get("val_s", 0.0) for row in self.rows)

    @property
    def wait_fraction(self) -> float:
        """The share of `seconds` that was spent waiting for data; 0 without steps."""
        return sum(row["data_wait_s"] for row in self.rows) / self.seconds if self.rows else 0.0

    @property
    def final(self) -> MetricsRow:
        """Means over the last steps, medians of times, the last validation, accuracies by split."""
        last = taken(self.rows)[-_LAST:]
        names = [name for name in (last[-1] if last else {}) if name not in _NOT_FINAL]
        means = {name: fmean(row[name] for row in last if name in row) for name in names}
        means |= next((_validation(row) for row in reversed(self.rows) if _validation(row)), {})
        if last:
            # The median over all steps, so that the slow first ones count little.
            for name in ("data_wait_s", "step_s", "videos_per_s"):
                means[name] = median(row[name] for row in self.rows)
            means["lr"] = last[-1]["lr"]
        for split, result in self.results.items():
            means |= {f"{name} {split}": result[name] for name in ("top1", "top5")}
        return means


def _validation(row: MetricsRow) -> MetricsRow:
    """The values that only an epoch's last row has."""
    return {name: value for name, value in row.items() if name.startswith("val_")}


def read_run(folder: Path) -> Run:
    """Reads a run.

    Raises:
        InputError: The folder is not a run's, or a file in it cannot be read.
    """
    try:
        return _read_run(folder)
    except OSError as error:  # the error of a read names no file
        path = error.filename or folder
        raise InputError(f"{path}: {error.strerror}; make it readable") from error


def _read_run(folder: Path) -> Run:
    if not is_file(folder / METRICS):
        raise InputError(f"{folder}: not a run: no {METRICS} there; give WORK/STAGE")
    step, steps = 0, None
    if is_file(folder / CHECKPOINT):
        state = load_checkpoint(folder / CHECKPOINT, mmap=True)
        step, steps = int(state["step"]), int(state["steps"])
    settings = folder / CONFIG
    return Run(
        folder=folder,
        config=yaml.safe_load(settings.read_text()) if is_file(settings) else {},
        rows=read_metrics(folder / METRICS),
        step=step,
        steps=steps,
        results={
            path.stem.removeprefix("eval-"): json.loads(path.read_text())
            for path in sorted(folder.glob("eval-*.json"))
        },
        bad=read_bad_list(folder),
        calibration=read_calibration(folder),
    )


def find_runs(roots: Sequence[Path]) -> list[Run]:
    """All runs in and below some folders, by path.

    Raises:
        InputError: One of them is missing.
    """
    for root in roots:
        if not is_folder(root):
            raise InputError(f"{root}: no such folder")
    folders = {path.parent for root in roots for path in root.rglob(METRICS)}
    return [read_run(folder) for folder in sorted(folders)]


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two runs side by side.

    Attributes:
        names: Their short names.
        settings: The settings that differ: (name, value in the first, value in the second).
        metrics: Name -> the `final` values of both; None where a run does not have it.
    """

    names: tuple[str, str]
    settings: list[tuple[str, object, object]]
    metrics: dict[str, tuple[float | None, float | None]]


def compare_runs(one: Run, two: Run) -> RunComparison:
    """Compares the settings and the last metrics of two runs."""
    first, second = short_names([one, two])
    a, b = one.final, two.final
    return RunComparison(
        names=(first, second),
        settings=differences(one.config, two.config),
        metrics={name: (a.get(name), b.get(name)) for name in a | b},
    )


def short_names(runs: Sequence[Run]) -> list[str]:
    """The runs' paths without the folders that all of them share."""
    parts = [run.folder.resolve().parts for run in runs]
    shared = 0
    # The last part is always kept.
    while len({path[shared] for path in parts}) == 1 and all(len(x) > shared + 1 for x in parts):
        shared += 1
    return ["/".join(path[shared:]) for path in parts]


def plot_runs(runs: Sequence[Run], png: Path, metric: str) -> None:
    """Writes a picture of one metric over the steps of several runs, smoothed.

    Raises:
        InputError: A run does not have that metric, or `png` cannot be written.
    """
    from matplotlib.figure import Figure

    from tb.reports.plots import smooth

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for run, name in zip(runs, short_names(runs), strict=True):
        rows = [row for row in run.rows if metric in row]
        if not rows:
            names = dict.fromkeys(name for row in run.rows for name in row if name != "step")
            known = ", ".join(names)
            raise InputError(f"{run.folder}: has no metric {metric!r}; it has: {known}")
        steps, values = (np.array([row[key] for row in rows]) for key in ("step", metric))
        axes.plot(*smooth(steps, values), label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(metric)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    write_named_file(png, data.getvalue(), "out")
