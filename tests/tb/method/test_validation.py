"""Held-out labelled videos: no classifier trains on them, and epochs are judged by them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from loaders import Part, open_loader
from loaders.plan import stage_views
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.reports.runs import read_run
from tb.training.loop import train
from tb.training.metrics import METRICS, MetricsRow, read_metrics
from tb.training.reporter import TrainingError
from tb.training.stage import Stage
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tb.workflow.run import run_stage
from tests.tb.commands import run_here
from tests.tb.conftest import QUICK
from tests.tb.pair import finish, start_pair
from tests.tb.steps import StoppedError, stopping_at


def settings(*more: str) -> Config:
    """One video of each class to train on, one held out."""
    labels = "labels={percent: 100, validation: 0.5}"
    return load_config("demo", (*QUICK, labels, "machine.tensorboard=false", *more))


def rows(path: Path) -> list[MetricsRow]:
    return read_metrics(path.parent / METRICS)


def probabilities(
    weights: dict[str, Tensor], manifest: Manifest, config: Config
) -> tuple[Tensor, Tensor]:
    """(V, K) of the held-out videos, plain network, each clip by itself; and (V,) their labels."""
    clips = config.classify.clips
    loader = open_loader(
        manifest,
        stage_views.evaluation(
            num_frames=clips.num_frames, stride=clips.stride, size_px=clips.size_px, num_clips=2
        ),
        subset=config.labels.subset(Part.VALIDATION),
        batch_size=1,
        shuffle=False,
        device="cpu",
    )
    model = Classifier(build_backbone("small"), len(manifest.classes))
    model.load_state_dict(weights)
    model.eval()
    found, labels = [], []
    with torch.no_grad():
        for batch in loader.batches(0):
            each = [model(clip[None]).softmax(-1)[0] for clip in batch.views["clips"][0, :, 0]]
            found.append(torch.stack(each).mean(0))
            labels.append(batch.labels[0])
    return torch.stack(found), torch.stack(labels)


@pytest.mark.parametrize("ema_decay", ["null", "0.5"])
def test_an_epoch_s_figures_are_those_of_the_weights_saved(
    manifest: Manifest, tmp_path: Path, ema_decay: str
) -> None:
    config = settings(
        f"student.optim.ema_decay={ema_decay}",
        "machine.checkpoint_steps=1",
        "machine.keep_last=100",
    )
    stage = supervised_only_stage(manifest, config)
    assert stage.steps_per_epoch == 3
    path = train(stage, tmp_path, config)
    found = rows(path)
    assert [row["step"] for row in found if "val_loss" in row] == [2, 5]
    for step in (2, 5):
        state = load_checkpoint(path.parent / f"checkpoint-{step + 1:08d}.pt")
        wanted, labels = probabilities(state["model"], manifest, config)
        assert len(labels) == 12
        likelihood = wanted.gather(1, labels[:, None]).log()
        assert found[step]["val_loss"] == pytest.approx(-likelihood.mean().item(), abs=1e-4)
        hits = (wanted.argmax(1) == labels).float()
        assert found[step]["val_top1"] == pytest.approx(hits.mean().item())
        assert hits.any(), "with no hit, a top-1 that is always 0 would pass"


@pytest.mark.slow
def test_two_processes_measure_the_weights_that_are_saved(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Batch norm's statistics differ between processes, and a checkpoint holds those of rank 0."""
    texts = (*QUICK, "labels={percent: 100, validation: 0.5}", "machine.tensorboard=false")
    texts = (*texts, "machine.checkpoint_steps=3", "machine.keep_last=100")
    words = ["train", "supervised", "--shards", str(manifest.root)]
    words += ["--preset", "demo", "--out", str(tmp_path)]
    words += [word for text in texts for word in ("--set", text)]
    for code, error in finish(start_pair(tmp_path, run_here, *words)):
        assert code == 0, error
    folder = tmp_path / "supervised"
    found = read_metrics(folder / METRICS)
    for step in (2, 5):
        state = load_checkpoint(folder / f"checkpoint-{step + 1:08d}.pt")
        wanted, labels = probabilities(state["model"], manifest, settings())
        likelihood = wanted.gather(1, labels[:, None]).log()
        assert found[step]["val_loss"] == pytest.approx(-likelihood.mean().item(), abs=1e-4)


def test_a_look_at_them_changes_nothing(manifest: Manifest, tmp_path: Path) -> None:
    config = settings("student.optim.ema_decay=0.5", "student.optim.schedule=cosine")
    stage = supervised_only_stage(manifest, config)
    looked = train(stage, tmp_path / "looked", config)
    stage = replace(supervised_only_stage(manifest, config), validate=None)
    assert file_digest(train(stage, tmp_path / "not", config)) == file_digest(looked)


def judged(stage: Stage, losses: list[float]) -> Stage:
    """The stage, its epochs' validation losses given."""
    given = iter(losses)
    return replace(stage, validate=lambda: {"val_loss": next(given)})


def test_best_and_plateau_go_by_them(manifest: Manifest, tmp_path: Path) -> None:
    config = settings(
        "student.optim={steps: 12, select: best, schedule: plateau, patience: 1}",
        "student.optim={plateau_steps: 3, warmup_steps: 0}",
        "machine.checkpoint_steps=3",
        "machine.keep_last=100",
    )
    stage = judged(supervised_only_stage(manifest, config), [3.0, 1.0, 2.0, 1.5])
    path = train(stage, tmp_path, config)
    best = load_checkpoint(path.parent / "checkpoint-00000006.pt")["model"]
    result = load_checkpoint(path)["model"]
    assert all(torch.equal(value, best[name]) for name, value in result.items())
    rates = [row["lr"] for row in rows(path)]
    first = config.student.optim.lr
    assert rates == pytest.approx([first] * 9 + [first / 2] * 3)


def test_a_loss_of_theirs_that_is_not_finite_stops_the_run(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = settings("machine.checkpoint_steps=2")
    stage = judged(supervised_only_stage(manifest, config), [math.nan])
    with pytest.raises(TrainingError, match="val_loss is nan at step 2"):
        train(stage, tmp_path, config)
    assert load_checkpoint(tmp_path / "supervised" / CHECKPOINT)["step"] == 2


def test_runs_show_the_last_epoch_s(manifest: Manifest, tmp_path: Path) -> None:
    config = settings("student.optim.steps=7")
    path = train(supervised_only_stage(manifest, config), tmp_path, config)
    final, last = read_run(path.parent).final, rows(path)[5]
    assert {name: final[name] for name in ("val_loss", "val_top1")} == {
        name: last[name] for name in ("val_loss", "val_top1")
    }


@pytest.mark.slow
def test_compiled_training_does_what_eager_training_does(
    manifest: Manifest, tmp_path: Path
) -> None:
    found = []
    for compiled in ("off", "on"):
        config = settings(f"machine.compile={compiled}", "machine.checkpoint_steps=2")
        stage = supervised_only_stage(manifest, config)
        found.append(rows(train(stage, tmp_path / compiled, config)))
    for row, other in zip(*found, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() & {"loss", "grad_norm", "val_loss"}:
            assert other[name] == pytest.approx(row[name], rel=1e-2), name


def test_a_stopped_run_goes_on_bit_for_bit(manifest: Manifest, tmp_path: Path) -> None:
    config = settings(
        "student.optim={steps: 12, ema_decay: 0.9, select: best, schedule: plateau, patience: 1}",
        "student.optim={plateau_steps: 4, plateau_threshold: 0.5, warmup_steps: 0}",
        "machine.checkpoint_steps=2",
    )

    stage = supervised_only_stage(manifest, config)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 5), tmp_path / "one", config)
    assert load_checkpoint(tmp_path / "one" / "supervised" / CHECKPOINT)["step"] == 4
    one, two = (
        train(supervised_only_stage(manifest, config), tmp_path / work, config)
        for work in ("one", "two")
    )
    assert file_digest(one) == file_digest(two)
    assert [row.get("val_loss") for row in rows(one)] == [row.get("val_loss") for row in rows(two)]


def test_the_best_epoch_is_remembered_over_a_stop(manifest: Manifest, tmp_path: Path) -> None:
    config = settings("student.optim={steps: 9, select: best}", "machine.checkpoint_steps=2")

    def stage(losses: list[float]) -> Stage:
        return judged(supervised_only_stage(manifest, config), losses)

    with pytest.raises(StoppedError):
        train(stopping_at(stage([1.0]), 5), tmp_path / "one", config)
    one = train(stage([2.0, 3.0]), tmp_path / "one", config)
    two = train(stage([1.0, 2.0, 3.0]), tmp_path / "two", config)
    assert file_digest(one) == file_digest(two)


def test_no_classifier_trains_on_them(manifest: Manifest, tmp_path: Path) -> None:
    config = load_config(
        "demo", (*QUICK, "labels={percent: 100, validation: 0.4}", "student.optim.steps=30")
    )
    held_out = config.labels.subset(Part.VALIDATION).rows(manifest)
    stage = supervised_only_stage(manifest, config)
    assert set(stage.loaders[0].rows).isdisjoint(held_out)
    both = np.concatenate([stage.loaders[0].rows, held_out])
    np.testing.assert_array_equal(np.sort(both), manifest.indices("train"))


def test_the_share_belongs_to_the_run_s_settings(manifest: Manifest, tmp_path: Path) -> None:
    run_stage("supervised", manifest, settings(), tmp_path)
    with pytest.raises(InputError, match="holds a run with other settings"):
        run_stage("supervised", manifest, settings("labels.validation=0.4"), tmp_path)
    with pytest.raises(InputError, match="validated_on"):
        run_stage("supervised", manifest, settings("evaluation.num_clips=3"), tmp_path)


def test_without_a_video_to_spare_it_says_so(manifest: Manifest) -> None:
    config = settings("labels.percent=50")  # one video of each class
    with pytest.raises(
        InputError, match=r"no validation videos .* 50 % of labels, 0\.5 of them.* more"
    ):
        supervised_only_stage(manifest, config)
