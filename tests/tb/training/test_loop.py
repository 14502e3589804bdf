import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from loaders import Batch
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.loading import dump_yaml, load_config, work_config
from tb.config.sections import Config, Optim
from tb.method.baselines import supervised_only_stage
from tb.method.scores import SIMILARITY, read_similarity
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.training.loop import train
from tb.training.metrics import METRICS, MetricsLog, read_metrics
from tb.training.reporter import TrainingError
from tb.training.schedule import Schedule
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tb.workflow.run import _runner, run_all, run_stage
from tests.tb.stopping import StoppedError, stopping_at


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
    calls = []

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        calls.append(batches[0].keys)
        return again.loss(batches)

    path = train(replace(again, loss=loss), tmp_path, config)
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
    settings = tmp_path / "config.yaml"
    settings.write_text((finished / "distinctive" / "config.yaml").read_text())
    command = [sys.executable, "-m", "tb.cli", "train", "distinctive"]
    command += ["--shards", str(manifest.root), "--out", str(tmp_path)]
    log = tmp_path / "distinctive" / METRICS
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(read_metrics(log)) < 3 and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < load_checkpoint(tmp_path / "distinctive" / CHECKPOINT)["step"] < 4
    subprocess.run(command, check=True, capture_output=True)
    names = ("distinctive", CHECKPOINT)
    assert same_weights(tmp_path.joinpath(*names), finished.joinpath(*names))


def test_sigterm_saves_the_step_in_progress_and_exits_with_143(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    patient = config.machine.model_copy(update={"checkpoint_steps": 1000})
    stage = supervised_only_stage(manifest, config)

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        return stage.loss(batches)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        train(replace(stage, loss=loss), tmp_path, config.model_copy(update={"machine": patient}))
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


def test_other_clips_for_the_similarity_are_other_settings_of_the_student(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    changed = load_config(str(work / "config.yaml"), ["pretrain.clips.stride=1"])
    with pytest.raises(
        InputError, match=r"holds a run with other settings: teachers\.similarity was"
    ):
        run_stage("student", manifest, changed, work)


def test_what_any_stage_lacks_is_found_out_before_the_first(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    for setting, message in (
        ("labels.percent=100", "no unlabelled videos"),
        ("evaluation.split=val", "no videos in split 'val'"),
        ("student.init=none.pt", r"none\.pt: no such checkpoint"),
        ("backbone=big", "no backbone 'big'"),
    ):
        path = tmp_path / "config.yaml"
        path.write_text(dump_yaml(config))
        with pytest.raises(InputError, match=message):
            run_all(manifest, load_config(str(path), [setting]), tmp_path / "work")
        assert not (tmp_path / "work").exists()


def _fail_or_wait(path: Path) -> None:
    if path.name == "bad":
        raise InputError("bad luck")
    time.sleep(60)
    path.touch()


def test_a_failed_stage_ends_those_beside_it_and_starts_no_other(tmp_path: Path) -> None:
    calls = [(_fail_or_wait, tmp_path / name) for name in ("slow", "bad", "late", "later")]
    began_s = time.monotonic()
    with pytest.raises(InputError, match="bad luck"), _runner(2) as run:
        run(calls)
    assert time.monotonic() - began_s < 50
    assert list(tmp_path.iterdir()) == []


def test_a_finished_stage_is_not_repeated(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    before = (finished / "student" / CHECKPOINT).stat().st_mtime_ns
    run_stage("student", manifest, config, finished)
    assert (finished / "student" / CHECKPOINT).stat().st_mtime_ns == before


def test_other_settings_are_refused_by_name(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    optim = config.student.optim.model_copy(update={"lr": 0.5})
    student = config.student.model_copy(update={"optim": optim})
    changed = config.model_copy(update={"student": student})
    with pytest.raises(InputError, match=r"optim\.lr was 0\.003, now 0\.5.*another --out"):
        run_stage("supervised", manifest, changed, finished)


def test_unfinished_and_missing_stages_are_refused(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such checkpoint; train that stage first"):
        run_stage("finetune-invariant", manifest, config, tmp_path)
    stage = pretrain_stage(StageKind.INVARIANT, manifest, config)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 2), tmp_path, config)
    with pytest.raises(InputError, match="stopped at step 2 of 4; run that stage's command again"):
        run_stage("finetune-invariant", manifest, config, tmp_path)


def test_a_loss_that_is_not_finite_stops_with_the_batch(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    stage = supervised_only_stage(manifest, config)

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        return {"loss": stage.loss(batches)["loss"] * math.nan}

    with pytest.raises(
        TrainingError, match=r"loss is nan at step 0; videos of the batch: \w+_train"
    ):
        train(replace(stage, loss=loss), tmp_path, config)


def test_on_and_off_need_no_quotes() -> None:
    machine = load_config("demo", ["machine.compile=on", "machine.amp=off"]).machine
    assert (machine.compile, machine.amp) == ("on", "off")
    assert load_config("demo", ["machine.compile='off'"]).machine.compile == "off"
    with pytest.raises(InputError, match=r"config machine\.amp"):
        load_config("demo", ["machine.amp=on"])


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


def test_the_student_s_target_is_the_teachers_mixture_by_each_video_s_similarity(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    stage = student_stage(manifest, config, finished)
    stage.model.eval()  # the student's own dropout and batch statistics are not the question
    batches = tuple(next(loader.stream()) for loader in stage.loaders)
    terms = stage.loss(batches)
    similarity = read_similarity(finished / SIMILARITY, manifest)
    assert similarity is not None
    teachers = []
    for name in ("invariant", "distinctive"):
        model = Classifier(build_backbone("small"), 12).eval()
        model.load_state_dict(weights(finished / f"finetune-{name}" / CHECKPOINT))
        teachers.append(model)
    distances, entropies = [], []
    for batch in batches:
        for place, row in enumerate(batch.plan.rows.tolist()):
            clip = batch.views["clip"][place : place + 1]
            with torch.no_grad():
                invariant, distinctive = (net(clip).softmax(-1)[0] for net in teachers)
                student = stage.model(clip)[0]
            weight = similarity[row]
            target = weight * invariant + (1 - weight) * distinctive
            distances.append(((student.softmax(-1) - target) ** 2).sum().item())
            if batch is batches[0]:
                entropies.append(-student.log_softmax(-1)[manifest.labels[row]].item())
    assert terms["L_unsup"].item() == pytest.approx(np.mean(distances), rel=1e-4)
    assert terms["L_sup"].item() == pytest.approx(np.mean(entropies), rel=1e-4)
    total = terms["L_sup"] + config.student.omega * terms["L_unsup"]
    assert torch.equal(terms["loss"], total)


def test_unlabelled_videos_reach_the_student_without_their_labels(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    labelled, unlabelled = student_stage(manifest, config, finished).loaders
    assert set(labelled.rows) | set(unlabelled.rows) == set(manifest.indices("train"))
    assert not set(labelled.rows) & set(unlabelled.rows)
    assert (next(unlabelled.stream()).labels == -1).all()
    assert (next(labelled.stream()).labels >= 0).all()


def test_a_label_list_decides_who_is_labelled(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    rows = [int(manifest.indices("train")[place]) for place in (3, 7, 20)]
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"{manifest.keys[row]} {manifest.labels[row]}\n" for row in rows))
    labels = config.labels.model_copy(update={"file": str(path)})
    stage = supervised_only_stage(manifest, config.model_copy(update={"labels": labels}))
    assert sorted(stage.loaders[0].rows.tolist()) == sorted(rows)
    assert list(stage.settings["labels"]) == ["file"]


@pytest.mark.parametrize("kind", SELF_SUPERVISED)
def test_each_teacher_has_its_own_terms(manifest: Manifest, config: Config, kind: str) -> None:
    stage = pretrain_stage(kind, manifest, config)
    terms = stage.loss((next(stage.loaders[0].stream()),))
    wanted = {"invariant": {"L_I"}, "distinctive": {"L_D1", "L_D2"}}.get(kind)
    assert set(terms) - {"loss"} == (wanted or {"L_I", "L_D1", "L_D2"})
    total = sum(value.item() for name, value in terms.items() if name != "loss")
    assert terms["loss"].item() == pytest.approx(total, rel=1e-5)


def test_one_batch_can_be_learnt_by_heart(manifest: Manifest, config: Config) -> None:
    """The network, the loss and the gradient belong together."""
    stage = supervised_only_stage(manifest, config)
    batches = (next(stage.loaders[0].stream()),)
    optimizer = torch.optim.Adam(stage.model.parameters(), lr=3e-3)
    first = stage.loss(batches)["loss"].item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = stage.loss(batches)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < first / 2


def test_plateau_halves_after_patience_and_cosine_ends_at_zero() -> None:
    optim = Optim(steps=100, batch_size=2, lr=1.0, warmup_steps=4, patience=2)
    schedule = Schedule(optim=optim, steps_per_epoch=2)
    assert [schedule.lr(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    for step in range(4, 12):
        mean = schedule.observe(step, 1.0)
        if mean is not None:
            schedule.judge(step, mean)  # the first sets the best, then two without gain, one more
    assert schedule.lr(12) == 0.5
    resumed = Schedule(optim=optim, steps_per_epoch=2)
    resumed.restore(json.loads(json.dumps(schedule.state())))
    assert resumed == schedule
    cosine = Schedule(optim=optim.model_copy(update={"schedule": "cosine"}), steps_per_epoch=2)
    assert cosine.lr(4) == 1.0
    assert cosine.lr(100) == pytest.approx(0.0, abs=1e-9)


def test_a_log_drops_what_will_be_repeated_and_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    with MetricsLog(path, keep=0) as log:
        for step in range(4):
            log.write({"step": step, "loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2, 3]
    with MetricsLog(path, keep=2) as log:
        log.write({"step": 2, "loss": 2.0})
    assert [row["loss"] for row in read_metrics(path)] == [1.0, 1.0, 2.0]
