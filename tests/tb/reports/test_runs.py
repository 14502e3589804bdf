import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from shards.errors import InputError
from tb.reports.runs import find_runs, plot_runs, read_run, short_names
from tb.training.metrics import METRICS, read_metrics
from tests.tb.commands import tb
from tests.tb.test_named_paths import UNREADABLE


def line_of(output: str, name: str) -> list[str]:
    """The words of the line that begins with a name."""
    (line,) = (line for line in output.splitlines() if line.split()[:1] == [name])
    return line.split()


def test_ls_names_every_stage_with_its_accuracy(finished: Path) -> None:
    output = tb("runs", "ls", finished)
    for stage in ("invariant", "distinctive"):
        words = line_of(output, stage)
        assert words[1] == "4/4"
        assert len(words) == 6  # and no accuracy
    for stage in ("supervised", "student"):
        top1 = json.loads((finished / stage / "eval-test.json").read_text())["top1"]
        words = line_of(output, stage)
        assert (words[1], words[-1]) == ("6/6", f"{top1:.1%}")


def test_show_ends_with_the_settings(finished: Path) -> None:
    output = tb("runs", "show", finished / "student")
    assert "6 of 6 steps saved" in output
    assert line_of(output, "student.optim.steps") == ["student.optim.steps", "6"]
    rows = read_metrics(finished / "student" / METRICS)
    mean = sum(row["L_sup"] for row in rows) / len(rows)
    assert line_of(output, "L_sup") == ["L_sup", f"{mean:.4g}"]


@pytest.mark.parametrize("name", ["[old]", "[", "[/b]"])
def test_a_name_that_looks_like_markup_is_printed_as_it_is(
    finished: Path, tmp_path: Path, name: str
) -> None:
    run = tmp_path / name / "student"
    shutil.copytree(finished / "student", run)
    config = (run / "config.yaml").read_text()
    assert "  file: null\n" in config
    (run / "config.yaml").write_text(config.replace("  file: null\n", f"  file: '{name}.txt'\n"))
    output = tb("runs", "show", run)
    assert f"{run}: 6 of 6 steps saved" in output
    assert line_of(output, "labels.file") == ["labels.file", f"{name}.txt"]
    compared = tb("runs", "compare", finished / "student", run)
    assert line_of(compared, "labels.file") == ["labels.file", "None", f"{name}.txt"]


def test_compare_names_what_differs_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished / "supervised", other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("num_clips: 2", "num_clips: 7"))
    output = tb("runs", "compare", finished / "supervised", other)
    assert line_of(output, "evaluation.num_clips")[1:] == ["2", "7"]
    assert output.count("evaluation.") == 1
    loss = line_of(output, "loss")
    assert loss[1] == loss[2]
    same = tb("runs", "compare", finished / "supervised", finished / "supervised")
    assert "the settings are the same" in same


def test_plot_draws_what_the_runs_have(finished: Path, tmp_path: Path) -> None:
    png = tmp_path / "loss.png"
    tb("runs", "plot", finished / "student", finished / "supervised", "--out", png)
    with Image.open(png) as picture:
        assert picture.width > 500
    runs = [read_run(finished / "student"), read_run(finished / "supervised")]
    with pytest.raises(InputError, match=r"supervised: has no metric 'L_unsup'; it has: loss, "):
        plot_runs(runs, png, "L_unsup")


def test_what_is_not_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run: no metrics\.jsonl there"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="none: no such folder"):
        find_runs([tmp_path / "none"])
    assert find_runs([tmp_path]) == []


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="needs a file that nobody can read")
@pytest.mark.parametrize("name", [METRICS, "config.yaml", "eval-test.json", "bad.jsonl"])
def test_a_file_of_a_run_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / METRICS).touch()
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to(UNREADABLE)
    with pytest.raises(InputError, match=f"{tmp_path}.*: .*; make it readable"):
        read_run(tmp_path)


def test_a_run_killed_before_its_first_step_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / METRICS).touch()
    assert line_of(tb("runs", "ls", tmp_path), "a") == ["a", "0/?"]


def test_short_names_tell_runs_apart(finished: Path) -> None:
    runs = find_runs([finished])
    names = short_names(runs)
    assert len(set(names)) == len(runs)
    assert "student" in names
    assert short_names(runs[:1]) == [runs[0].folder.name]
