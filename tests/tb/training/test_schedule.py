"""The learning rate."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tb.config.load_config import load_config
from tb.config.optim import LrSchedule, Optim
from tb.training.schedule import Schedule
from tests.tb.config.test_presets import NUM_LABELLED, NUM_TRAIN

OPTIM = Optim(
    steps=100, batch_size=2, lr=1.0, warmup_steps=4, patience=2, plateau_steps=2, plateau_floor=0.2
)


def rates(schedule: Schedule, steps: range, *losses: float) -> list[float]:
    """The rate after each epoch, where each of the epoch's steps has the loss that is given."""
    found, given = [], iter(losses)
    loss = next(given)
    for step in steps:
        mean = schedule.observe(step, loss)
        if mean is not None:
            schedule.judge(step, mean)
            found.append(schedule.lr(step + 1))
            loss = next(given, 0.0)
    return found


def test_warm_up_then_cosine_to_zero() -> None:
    schedule = Schedule(optim=OPTIM, steps_per_epoch=2)
    assert [schedule.lr(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    cosine = Schedule(optim=OPTIM.model_copy(update={"schedule": "cosine"}), steps_per_epoch=2)
    assert cosine.lr(4) == 1.0
    assert cosine.lr(28) == pytest.approx((1 + 2**-0.5) / 2)  # a quarter of the way
    assert cosine.lr(100) == pytest.approx(0.0, abs=1e-9)


def test_an_epochs_loss_is_the_mean_of_its_steps() -> None:
    schedule = Schedule(optim=OPTIM, steps_per_epoch=3)
    losses = [1.0, 2.0, 3.0, 9.0, None, 5.0, None, None, None]
    found = [schedule.observe(step, loss) for step, loss in enumerate(losses)]
    assert found == [None, None, 2.0, None, None, 7.0, None, None, None]


def test_plateau_halves_after_patience_down_to_its_floor() -> None:
    # The first epoch is the best, the others bring no gain.
    found = rates(Schedule(optim=OPTIM, steps_per_epoch=2), range(4, 20), *[1.0] * 8)
    assert found == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]


def test_a_gain_below_the_threshold_is_none() -> None:
    optim = OPTIM.model_copy(update={"plateau_threshold": 0.1})
    schedule = Schedule(optim=optim, steps_per_epoch=2)
    assert rates(schedule, range(4, 10), 1.0, 0.91, 0.905) == [1.0, 1.0, 0.5]
    assert schedule.best == 1.0
    assert rates(schedule, range(10, 12), 0.89) == [0.5]
    assert schedule.best == 0.89


def test_plateau_looks_at_the_mean_of_whole_epochs() -> None:
    optim = OPTIM.model_copy(update={"plateau_steps": 5, "patience": 1})
    # Three epochs of two steps are the first that have five steps. Their means are 2, 2 and 1.
    losses = [3.0, 2.0, 1.0, 0.0, 3.0, 3.0, 0.0, 0.0, 3.0]
    found = rates(Schedule(optim=optim, steps_per_epoch=2), range(4, 22), *losses)
    assert found == [1.0] * 5 + [0.5] * 4


def test_a_restored_schedule_goes_on_as_if_nothing_had_been() -> None:
    losses = np.random.default_rng(0).uniform(size=60).tolist()
    optim = OPTIM.model_copy(update={"plateau_steps": 6, "patience": 1})
    whole = Schedule(optim=optim, steps_per_epoch=3)
    for step, loss in enumerate(losses):
        saved = json.loads(json.dumps(whole.state()))
        resumed = Schedule(optim=optim, steps_per_epoch=3)
        resumed.restore(saved)
        for schedule in (whole, resumed):
            mean = schedule.observe(step, loss)
            if mean is not None:
                schedule.judge(step, mean)
        assert resumed == whole
    assert whole.factor < 1


def paper_schedules() -> dict[str, Schedule]:
    """Every schedule of the paper's presets, by preset and stage."""
    found = {}
    for data, counts in NUM_LABELLED.items():
        for percent, num_labelled in counts.items():
            # The depths of a percentage have the same steps (see test_presets).
            preset = f"{data}_r50_{percent}p"
            config = load_config(preset)
            for name, num_videos in (
                ("pretrain", NUM_TRAIN[data]),
                ("finetune", num_labelled),
                ("student", num_labelled),
            ):
                optim = getattr(config, name).optim
                assert optim.schedule == LrSchedule.PLATEAU
                epoch = round(num_videos / optim.batch_size)
                found[f"{preset}, {name}"] = Schedule(optim=optim, steps_per_epoch=epoch)
    return found


PAPER = paper_schedules()


def replica(schedule: Schedule, noise: float, seed: int) -> float:
    """The rate in the middle of a run, as a share of `lr`, where the loss falls slowly in noise.

    The loss falls to the half over the run, as a power of the step. Each step has noise of the
    share `noise`.
    """
    run, rng = replace(schedule, epoch_losses=[], step_losses=[]), np.random.default_rng(seed)
    epoch, steps = run.steps_per_epoch, run.optim.steps
    for begin in range(0, steps // 2 - epoch, epoch):
        curve = (1 + 20 * np.arange(begin, begin + epoch) / steps) ** -0.25
        losses = curve * (1 + noise * rng.standard_normal(epoch))
        run.judge(begin + epoch - 1, losses.mean())
    return run.lr(steps // 2) / run.optim.lr


@pytest.mark.parametrize("noise", [0.15, 0.3])
@pytest.mark.parametrize("name", PAPER)
def test_noise_alone_hardly_lowers_a_paper_preset_s_rate(name: str, noise: float) -> None:
    assert min(replica(PAPER[name], noise, seed) for seed in range(3)) >= 0.25


def test_the_replica_shows_what_looks_at_short_epochs_do() -> None:
    """UCF101, 1 %: an epoch has 6 steps."""
    schedule = PAPER["ucf101_r50_1p, student"]
    hasty = schedule.optim.model_copy(update={"plateau_steps": 1})
    assert replica(replace(schedule, optim=hasty), 0.3, 0) == schedule.optim.plateau_floor
