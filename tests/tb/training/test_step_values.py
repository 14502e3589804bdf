"""The values of steps stay on the device for a while, which changes no number."""

import itertools
import logging
import math
from pathlib import Path

import pytest
import torch

from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.training.loop import train
from tb.training.metrics import METRICS, MetricsRow, read_metrics
from tb.training.reporter import TrainingError
from tb.training.step_values import StepValues, Terms, fetch
from tb.training.world import World
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tests.tb.conftest import QUICK
from tests.tb.steps import watched, with_terms

TIMES = ("data_wait_s", "step_s", "videos_per_s", "val_s")


def settings(*more: str) -> Config:
    base = ("machine.tensorboard=false", "machine.checkpoint_steps=100", "student.optim.steps=11")
    return load_config("demo", (*QUICK, *base, *more))


def untimed(path: Path) -> list[MetricsRow]:
    rows = read_metrics(path.parent / METRICS)
    return [{name: x for name, x in row.items() if name not in TIMES} for row in rows]


@pytest.mark.parametrize(
    "variant",
    [
        (),
        (
            "student.optim={schedule: plateau, patience: 1, plateau_steps: 1}",
            "student.optim={warmup_steps: 0, select: best}",
        ),
        ("labels={percent: 100, validation: 0.5}", "student.optim.ema_decay=0.5"),
        ("machine.amp=fp16", "student.optim.accumulate=2"),
    ],
)
def test_how_often_values_are_fetched_changes_no_number(
    manifest: Manifest, tmp_path: Path, variant: tuple[str, ...]
) -> None:
    paths = []
    for log_steps in (1, 4, 100):
        config = settings(f"machine.log_steps={log_steps}", *variant)
        stage = supervised_only_stage(manifest, config)
        paths.append(train(stage, tmp_path / str(log_steps), config))
    for one, two in itertools.pairwise(paths):
        assert file_digest(one) == file_digest(two)
        assert untimed(one) == untimed(two)
    assert [row["step"] for row in untimed(paths[0])] == list(range(11))


def test_a_loss_that_is_not_finite_is_named_by_its_own_step_and_videos(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = settings("machine.log_steps=100")
    stage = supervised_only_stage(manifest, config)
    seen: list[tuple[str, ...]] = []

    def spoil(terms: Terms) -> Terms:
        return {"loss": terms["loss"] * (math.nan if len(seen) == 4 else 1.0)}

    spoilt = with_terms(watched(stage, lambda batches: seen.append(batches[0].keys)), spoil)

    with pytest.raises(TrainingError, match="loss is nan at step 3") as caught:
        train(spoilt, tmp_path, config)
    assert len(seen) > 4  # it was found out later
    assert all(key in str(caught.value) for key in seen[3])
    assert load_checkpoint(tmp_path / "supervised" / CHECKPOINT)["step"] == 0
    assert [row["step"] for row in read_metrics(tmp_path / "supervised" / METRICS)] == [0, 1, 2]


def test_a_fetch_gives_each_step_its_own_values() -> None:
    steps = []
    for number in range(3):
        values = StepValues(step=number, num_pieces=1)
        values.terms = {"loss": torch.tensor(1.0 + number), "L_sup": torch.tensor(2.0 + number)}
        values.keys, values.num_padded = [f"v{number}"], number
        values.end(0.1 * number, torch.tensor(3.0 + number))
        steps.append(values)
    found, stopping = fetch(steps, True, World())
    assert stopping
    for number, step in enumerate(found):
        assert step.step == number
        assert step.terms == {"loss": 1 + number, "L_sup": 2 + number, "grad_norm": 3 + number}
        assert (step.costs["lr"], step.costs["num_padded"]) == (0.1 * number, number)
        assert step.keys == [f"v{number}"]
    assert not fetch(steps, False, World())[1]


def test_the_loop_logs_what_it_does(
    manifest: Manifest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, logger="tb")
    config = settings("student.optim.steps=2")
    train(supervised_only_stage(manifest, config), tmp_path, config)
    train(supervised_only_stage(manifest, config), tmp_path, config)
    assert "supervised: already trained (2 steps)" in caplog.text
    assert capsys.readouterr().out == ""
