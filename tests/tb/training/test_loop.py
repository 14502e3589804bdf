"""The training loop in real runs: resuming, stopping, refusing."""

import math
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.load_config import load_config, work_config
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.method.stages import build_stage
from tb.stage_kinds import StageKind
from tb.training.loop import train
from tb.training.metrics import METRICS, read_metrics
from tb.training.reporter import TrainingError
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tb.workflow.run import run_stage
from tests.tb.commands import start, tb
from tests.tb.conftest import QUICK
from tests.tb.steps import StoppedError, stopping_at, watched, with_terms


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_checkpoint(path)["model"]
    return state


def same_weights(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("steps_done", [1, 3])
def test_resumed_training_equals_uninterrupted_training_bit_for_bit(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path, steps_done: int
) -> None:
    stage = supervised_only_stage(manifest, config)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, steps_done), tmp_path, config)
    saved = load_checkpoint(tmp_path / "supervised" / CHECKPOINT)["step"]
    assert saved == steps_done - steps_done % 2  # a checkpoint every second step
    again = supervised_only_stage(manifest, config)
    calls: list[tuple[str, ...]] = []
    path = train(watched(again, lambda batches: calls.append(batches[0].keys)), tmp_path, config)
    assert len(calls) == config.student.optim.steps - saved
    assert same_weights(path, finished / "supervised" / CHECKPOINT)
    assert file_digest(path) == file_digest(finished / "supervised" / CHECKPOINT)
    one, two = (
        [(row["step"], row["loss"], row["lr"]) for row in read_metrics(folder / METRICS)]
        for folder in (path.parent, finished / "supervised")
    )
    assert one == two


def test_a_killed_process_goes_on_to_the_same_weights(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    """With a loader process, where the finished run had threads."""
    settings = tmp_path / "config.yaml"
    settings.write_text((finished / "distinctive" / "config.yaml").read_text())
    words = ["train", "distinctive", "--shards", str(manifest.root), "--out", str(tmp_path)]
    words += ["--set", "machine.log_steps=1", "--set", "machine.in_process=false"]
    log = tmp_path / "distinctive" / METRICS
    process = start(*words, folder=tmp_path)
    while len(read_metrics(log)) < 3 and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 0 < load_checkpoint(tmp_path / "distinctive" / CHECKPOINT)["step"] < 4
    tb(*words)
    names = ("distinctive", CHECKPOINT)
    assert same_weights(tmp_path.joinpath(*names), finished.joinpath(*names))


def test_sigterm_saves_the_step_in_progress_and_exits_with_143(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    patient = config.machine.model_copy(update={"checkpoint_steps": 1000})
    stage = supervised_only_stage(manifest, config)
    asked = watched(stage, lambda batches: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        train(asked, tmp_path, config.model_copy(update={"machine": patient}))
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_checkpoint(tmp_path / "supervised" / CHECKPOINT)["step"] == 1
    path = train(supervised_only_stage(manifest, config), tmp_path, config)
    assert same_weights(path, finished / "supervised" / CHECKPOINT)


def test_a_refused_setting_is_not_remembered(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    changed = load_config(str(work / "config.yaml"), ["student.optim.lr=0.5"])
    with pytest.raises(InputError, match="holds a run with other settings"):
        run_stage("supervised", manifest, changed, work)
    run_stage("supervised", manifest, work_config(work, None, []), work)


def test_other_settings_are_refused_by_name(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    optim = config.student.optim.model_copy(update={"lr": 0.5})
    student = config.student.model_copy(update={"optim": optim})
    changed = config.model_copy(update={"student": student})
    with pytest.raises(InputError, match=r"optim\.lr was 0\.003, now 0\.5.*another --out"):
        run_stage("supervised", manifest, changed, finished)


def test_clips_per_video_belongs_to_a_run(
    manifest: Manifest, finished: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    two = load_config(str(work / "config.yaml"), ["student.optim.clips_per_video=2"])
    with pytest.raises(InputError, match=r"optim\.clips_per_video was 1, now 2.*another --out"):
        run_stage("supervised", manifest, two, work)


def test_both_streams_have_as_many_clips(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    """An epoch of the student has three times as many steps, and a killed run ends the same."""
    three = load_config("demo", [*QUICK, "student.optim.clips_per_video=3"])
    one, stage = (
        build_stage(StageKind.STUDENT, manifest, each, finished) for each in (config, three)
    )
    assert [loader.planner.num_windows for loader in stage.loaders] == [36, 36]
    assert (one.steps_per_epoch, stage.steps_per_epoch) == (3, 9)
    whole = train(supervised_only_stage(manifest, three), tmp_path / "whole", three)
    with pytest.raises(StoppedError):
        train(stopping_at(supervised_only_stage(manifest, three), 3), tmp_path / "cut", three)
    cut = train(supervised_only_stage(manifest, three), tmp_path / "cut", three)
    assert same_weights(whole, cut)
    assert not same_weights(whole, finished / "supervised" / CHECKPOINT)


def test_a_loss_that_is_not_finite_stops_with_the_batch(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    stage = supervised_only_stage(manifest, config)
    spoilt = with_terms(stage, lambda terms: {"loss": terms["loss"] * math.nan})
    with pytest.raises(
        TrainingError, match=r"loss is nan at step 0; videos of the batch: \w+_train"
    ):
        train(spoilt, tmp_path, config)


def test_the_rate_halves_after_an_epoch_whose_mean_loss_is_no_gain(
    manifest: Manifest, tmp_path: Path
) -> None:
    optim = "{steps: 12, schedule: plateau, patience: 1, plateau_steps: 3, warmup_steps: 0}"
    config = load_config("demo", (*QUICK, f"student.optim={optim}"))
    stage = supervised_only_stage(manifest, config)
    assert stage.steps_per_epoch == 3
    # The means are 3, 1, 2 and 1.5. Neither the first steps nor the last ones rise and fall so.
    given = iter([5.0, 3.0, 1.0, 0.0, 1.0, 2.0, 0.0, 6.0, 0.0, 2.0, 1.0, 1.5])
    changed = with_terms(stage, lambda terms: {"loss": 0 * terms["loss"] + next(given)})
    path = train(changed, tmp_path, config)
    first = config.student.optim.lr
    rates = [row["lr"] for row in read_metrics(path.parent / METRICS)]
    assert rates == pytest.approx([first] * 9 + [first / 2] * 3)


def test_two_processes_do_not_train_in_one_folder(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    from shards.files.lock import locked

    folder = tmp_path / "supervised"
    folder.mkdir()
    with (
        locked(folder / ".lock", "held by the test"),
        pytest.raises(InputError, match="another process trains there"),
    ):
        train(supervised_only_stage(manifest, config), tmp_path, config)
