import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.stage_kinds import TeacherWeights
from tb.tables.grid import Finding, Grid, findings, make_grid, run_grid, unit_source
from tb.tables.published import TABLES, TableRow
from tb.tables.reproduce import Reproduction
from tests.tb.conftest import QUICK

TABLE1 = {row.name: row for row in TABLES["table1"]}
QUICK_GRID = tuple(text for text in QUICK if not text.startswith("labels.percent"))


def grid_of(*names: str, seeds: int = 1, percents: tuple[float, ...] = (50,)) -> Grid:
    return make_grid(
        [TABLE1[name] for name in names],
        dict.fromkeys(percents, "demo"),
        num_seeds=seeds,
        overrides=QUICK_GRID,
    )


def test_every_unit_comes_after_what_it_needs_and_only_once() -> None:
    grid = grid_of(*TABLE1, seeds=2, percents=(10, 50))
    seen: set[str] = set()
    for unit in grid.units:
        assert unit.key not in seen
        assert seen.issuperset(unit.needs)
        seen.add(unit.key)
    assert {cell.unit for cell in grid.cells} <= seen
    assert len(grid.cells) == 2 * 2 * len(TABLE1)
    # Pretraining uses no labels: it runs once for each seed, whatever the percentages.
    assert sum(unit.kind == "invariant" for unit in grid.units) == 2


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("supervised", []),
        ("invariant-only", ["finetune-invariant"]),
        ("timebalance", ["finetune-invariant", "finetune-distinctive"]),
        ("fixmatch", []),
    ],
)
def test_a_row_needs_the_teachers_that_it_uses(name: str, needs: list[str]) -> None:
    unit = grid_of(name).units[-1]
    assert [key.rpartition("/")[2] for key in unit.needs] == needs


def test_some_rows_run_only_if_they_are_named() -> None:
    wanted = Reproduction(table="table1")
    cells = {cell.row.name for cell in wanted.grid().cells}
    assert cells == set(TABLE1) - {"calibrated-weights", "oracle"}
    for name, teachers in (
        ("calibrated-weights", TeacherWeights.CALIBRATED),
        ("oracle", TeacherWeights.ORACLE),
    ):
        unit = replace(wanted, rows=(name,)).grid().units[-1]
        assert unit.config.student.teachers is teachers
        assert len(unit.needs) >= 2


@pytest.mark.parametrize(
    ("name", "omega", "teachers"),
    [
        ("no-teachers-scratch", 0, TeacherWeights.CALIBRATED),  # the preset's; they do not count
        ("invariant-only-scratch", 4, TeacherWeights.INVARIANT),
        ("distinctive-only-scratch", 4, TeacherWeights.DISTINCTIVE),
    ],
)
def test_a_student_from_scratch_without_a_part_runs_only_if_it_is_named(
    name: str, omega: float, teachers: TeacherWeights
) -> None:
    wanted = Reproduction(table="table2")
    assert name not in {cell.row.name for cell in wanted.grid().cells}
    student = replace(wanted, rows=(name,)).grid().units[-1].config.student
    assert (student.init, student.omega, student.teachers) == ("scratch", omega, teachers)


def test_a_start_from_a_checkpoint_is_needed_too() -> None:
    rows = [TableRow(name="row", title="", overrides=("student.init=tclr",))]
    grid = make_grid(rows, {50.0: "demo"}, num_seeds=1, overrides=QUICK_GRID)
    assert "seed-0/pretrain/tclr" in grid.units[-1].needs


def accuracies(found: dict[str, Finding], grid: Grid) -> dict[str, float]:
    """Top-1 of the grid's cells."""
    evaluations = {cell.unit: found[cell.unit].evaluation for cell in grid.cells}
    assert None not in evaluations.values()
    return {unit: x.top1 for unit, x in evaluations.items() if x is not None}


def units_begun(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The units that the grid has named since the last call."""
    found = [x.getMessage() for x in caplog.records if x.name == "tb.tables.grid"]
    caplog.clear()
    return found


def test_rows_share_what_they_can_and_run_once(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tb.tables.grid")
    small = grid_of("supervised", "invariant-only")
    run_grid(small, manifest, tmp_path)
    ran = units_begun(caplog)
    assert len(ran) == len(small.units)
    found = findings(small, manifest, tmp_path)
    assert all(0 <= top1 <= 1 for top1 in accuracies(found, small).values())
    # A larger table in the same folder: only the new units run.
    large = grid_of("supervised", "finetune-invariant", "invariant-only", "pseudo-label")
    run_grid(large, manifest, tmp_path)
    assert units_begun(caplog) == ["seed-0/labels-50/pseudo-label"]
    assert findings(small, manifest, tmp_path) == found
    # A unit that was deleted runs again, with the same result.
    shutil.rmtree(tmp_path / "seed-0" / "labels-50" / "supervised")
    run_grid(small, manifest, tmp_path)
    assert units_begun(caplog) == ["seed-0/labels-50/supervised"]
    assert accuracies(findings(small, manifest, tmp_path), small) == accuracies(found, small)
    with pytest.raises(InputError, match="made with other settings or data"):
        run_grid(small, replace(manifest, digest="0" * 64), tmp_path)
    with pytest.raises(InputError, match="made with other settings or data; choose another --out"):
        run_grid(
            make_grid(
                [TABLE1["supervised"]],
                {50.0: "demo"},
                num_seeds=1,
                overrides=(*QUICK_GRID, "student.optim.lr=0.5"),
            ),
            manifest,
            tmp_path,
        )


def identity(manifest: Manifest, *settings: str) -> dict[str, str]:
    """Name of each unit of a small grid -> what identifies its result."""
    grid = make_grid(
        [TABLE1[x] for x in ("supervised", "pseudo-label", "mean-teacher", "finetune-invariant")],
        {50.0: "demo"},
        num_seeds=1,
        overrides=(*QUICK_GRID, *settings),
    )
    return {unit.name: unit_source(unit, manifest) for unit in grid.units}


def test_the_order_of_videos_belongs_to_every_unit(manifest: Manifest) -> None:
    one, other = (identity(manifest, f"machine.order={x}") for x in ("global", "windowed"))
    assert len(one) == 5
    assert all(one[name] != other[name] for name in one)


@pytest.mark.parametrize("setting", ["rampup_share=0.5", "late_ema_decay=0.99"])
def test_the_ramp_up_belongs_to_mean_teacher_alone(manifest: Manifest, setting: str) -> None:
    one, other = identity(manifest), identity(manifest, f"baselines.{setting}")
    assert {name for name in one if one[name] != other[name]} == {"mean-teacher"}


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("labels.file", {"supervised", "pseudo-label", "mean-teacher", "finetune-invariant"}),
        ("student.init", {"supervised", "pseudo-label", "mean-teacher"}),
    ],
)
def test_of_a_file_the_content_counts_and_not_the_place(
    manifest: Manifest, tmp_path: Path, setting: str, named: set[str]
) -> None:
    one, copy, other = (tmp_path / name for name in ("one.txt", "copy.txt", "other.txt"))
    for path, text in ((one, "a"), (copy, "a"), (other, "b")):
        path.write_text(text)
    found = [identity(manifest, f"{setting}={path}") for path in (one, copy, other)]
    assert found[0] == found[1]
    assert {name for name in found[0] if found[0][name] != found[2][name]} == named
    one.write_text("b")
    assert identity(manifest, f"{setting}={one}") == found[2]
    one.unlink()
    with pytest.raises(InputError, match=rf"one\.txt: no such .*; give another {setting}"):
        identity(manifest, f"{setting}={one}")


_RUNNER = """
import logging
import sys
from pathlib import Path
from shards.format.manifest import read_manifest
from tb.tables.grid import run_grid
from tests.tb.tables.test_grid import grid_of
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    run_grid(grid_of("supervised", "pseudo-label", seeds=2), read_manifest(sys.argv[1]),
             Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_runners_share_a_folder_and_one_may_be_killed(manifest: Manifest, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RUNNER, str(manifest.root), str(tmp_path / "shared")]
    runners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    done = tmp_path / "shared" / "done"
    while not done.is_dir() or not list(done.iterdir()):
        time.sleep(0.1)
    os.kill(runners[0].pid, signal.SIGKILL)
    said = [runner.communicate(timeout=240)[0].splitlines() for runner in runners]
    assert [runner.returncode for runner in runners] == [-signal.SIGKILL, 0, 0]
    grid = grid_of("supervised", "pseudo-label", seeds=2)
    keys = {unit.key for unit in grid.units}
    # Beside the units' names, there are lines about training that is done or goes on.
    ran = [[line for line in lines if line in keys] for lines in said]
    # Only the unit of the killed runner may have begun twice.
    twice = [key for key in ran[1] if key in ran[2]]
    assert twice == []
    assert set().union(*ran) == keys
    run_grid(grid, manifest, tmp_path / "alone")
    together, alone = (
        accuracies(findings(grid, manifest, tmp_path / name), grid) for name in ("shared", "alone")
    )
    assert together == alone


def test_a_grid_is_not_for_torchrun(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InputError, match="without torchrun, with --jobs its number of GPUs"):
        run_grid(grid_of("supervised"), manifest, tmp_path)
