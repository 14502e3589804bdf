"""The learning rate."""

import json

import pytest

from tb.config.sections import Optim
from tb.training.schedule import Schedule


def test_plateau_halves_after_patience_and_cosine_ends_at_zero() -> None:
    optim = Optim(steps=100, batch_size=2, lr=1.0, warmup_steps=4, patience=2)
    schedule = Schedule(optim=optim, steps_per_epoch=2)
    assert [schedule.lr(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    rates = []
    for step in range(4, 12):
        mean = schedule.observe(step, 1.0)
        if mean is not None:
            schedule.judge(step, mean)  # the first is the best, the others bring no gain
            rates.append(schedule.lr(step + 1))
    assert rates == [1.0, 1.0, 0.5, 0.5]
    resumed = Schedule(optim=optim, steps_per_epoch=2)
    resumed.restore(json.loads(json.dumps(schedule.state())))
    assert resumed == schedule
    cosine = Schedule(optim=optim.model_copy(update={"schedule": "cosine"}), steps_per_epoch=2)
    assert cosine.lr(4) == 1.0
    assert cosine.lr(28) == pytest.approx((1 + 2**-0.5) / 2)  # a quarter of the way
    assert cosine.lr(100) == pytest.approx(0.0, abs=1e-9)
