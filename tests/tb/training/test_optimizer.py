"""What surrounds Adam's step, in real runs: pieces, clipping, the running mean, float16."""

import errno
import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.training.loop import train
from tb.training.metrics import METRICS, MetricsRow, read_metrics
from tb.training.reporter import TrainingError
from tb.training.stage import Stage
from tb.training.step_values import Terms
from tb.weights.checkpoint import CHECKPOINT, file_digest, keep_last, load_checkpoint
from tests.tb.conftest import QUICK
from tests.tb.ranks import freeze_statistics
from tests.tb.steps import StoppedError, stopping_at, watched, with_terms

ADAM_BETA1 = 0.9


def quick(*settings: str) -> Config:
    return load_config("demo", (*QUICK, "machine.tensorboard=false", *settings))


def supervised(manifest: Manifest, config: Config) -> Stage:
    return supervised_only_stage(manifest, config)


def moments(path: Path) -> Tensor:
    state = load_checkpoint(path)["optimizer"]["state"]
    return torch.cat([value["exp_avg"].flatten() for value in state.values()])


def rows(path: Path) -> list[MetricsRow]:
    return read_metrics(path.parent / METRICS)


def with_loss(stage: Stage, factors: dict[int, float]) -> Stage:
    """The stage, its loss multiplied at some steps."""
    calls = [0]

    def multiply(terms: Terms) -> Terms:
        factor = factors.get(calls[0], 1.0)
        calls[0] += 1
        return {name: term * factor for name, term in terms.items()}

    return with_terms(stage, multiply)


def test_a_batch_in_pieces_has_the_gradient_of_the_batch(
    manifest: Manifest, tmp_path: Path
) -> None:
    found = []
    for pieces in (1, 2):
        config = quick(
            f"student.optim.accumulate={pieces}", "student.optim.steps=1", "classify.dropout=0"
        )
        stage = freeze_statistics(supervised(manifest, config))
        path = train(stage, tmp_path / str(pieces), config)
        found.append((moments(path), rows(path)[0]))
    (whole, row), (parts, other) = found
    assert (parts - whole).norm() < 1e-5 * whole.norm()
    for name in ("loss", "grad_norm", "num_padded"):
        assert other[name] == pytest.approx(row[name], rel=1e-5)
    # After one step, Adam's first moment is a tenth of the gradient.
    assert row["grad_norm"] == pytest.approx(whole.norm().item() / (1 - ADAM_BETA1), rel=1e-4)


def test_clipping_limits_the_gradient_and_tells_what_it_was(
    manifest: Manifest, tmp_path: Path
) -> None:
    settings = ("student.optim.steps=1", "student.optim.clip_norm=0.25")
    path = train(supervised(manifest, quick(*settings)), tmp_path, quick(*settings))
    assert rows(path)[0]["grad_norm"] > 0.25
    assert moments(path).norm().item() == pytest.approx(0.25 * (1 - ADAM_BETA1), rel=1e-4)


def test_the_running_mean_is_the_one_of_the_weights_at_every_step(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = quick(
        "student.optim.ema_decay=0.3", "machine.checkpoint_steps=1", "machine.keep_last=100"
    )
    path = train(supervised(manifest, config), tmp_path, config)
    states = [load_checkpoint(file) for file in sorted(path.parent.glob("checkpoint-*.pt"))]
    assert [state["step"] for state in states] == list(range(7))
    name = "fc.weight"
    mean = states[0]["model"][name]
    for step, state in enumerate(states[1:]):
        decay = min(0.3, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * state["raw"][name]
        assert torch.allclose(state["model"][name], mean, atol=1e-6)
    assert not torch.equal(states[-1]["model"][name], states[-1]["raw"][name])


def test_the_best_epoch_s_weights_are_the_result_where_asked_for(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = quick(
        "student.optim.steps=9",
        "student.optim.select=best",
        "machine.checkpoint_steps=1",
        "machine.keep_last=100",
    )
    stage = supervised(manifest, config)
    assert stage.steps_per_epoch == 3
    # The losses of the second epoch are the lowest.
    path = train(with_loss(stage, {3: 1e-3, 4: 1e-3, 5: 1e-3}), tmp_path, config)
    result, best, last = (
        load_checkpoint(path.parent / name)
        for name in (CHECKPOINT, "checkpoint-00000006.pt", "checkpoint-00000008.pt")
    )
    assert all(torch.equal(value, best["model"][name]) for name, value in result["model"].items())
    assert not torch.equal(result["raw"]["fc.weight"], result["model"]["fc.weight"])
    assert not torch.equal(last["model"]["fc.weight"], result["model"]["fc.weight"])


def test_last_checkpoints_are_kept_under_their_steps(manifest: Manifest, tmp_path: Path) -> None:
    config = quick("machine.keep_last=2")
    path = train(supervised(manifest, config), tmp_path, config)
    names = sorted(file.name for file in path.parent.glob("*.pt"))
    assert names == ["checkpoint-00000004.pt", "checkpoint-00000006.pt", CHECKPOINT]
    assert file_digest(path) == file_digest(path.parent / names[1])


def test_a_copy_of_a_checkpoint_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system where a file has one name only."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no second names here")

    def stop(_: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / CHECKPOINT
    path.write_bytes(b"whole")
    monkeypatch.setattr(os, "link", refuse)
    keep_last(path, 4, 2)
    assert (tmp_path / "checkpoint-00000004.pt").read_bytes() == b"whole"
    monkeypatch.setattr(shutil, "copyfile", stop)
    with pytest.raises(OSError, match="No space left"):
        keep_last(path, 6, 2)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["checkpoint-00000004.pt", CHECKPOINT]


def test_everything_together_resumes_bit_for_bit(manifest: Manifest, tmp_path: Path) -> None:
    config = quick(
        "machine.amp=fp16",
        "student.optim={accumulate: 2, clip_norm: 1.0, ema_decay: 0.9, select: best}",
    )

    stage = supervised_only_stage(manifest, config)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 2 * 5), tmp_path / "one", config)
    assert load_checkpoint(tmp_path / "one" / "supervised" / CHECKPOINT)["step"] == 4
    one, two = (
        train(supervised(manifest, config), tmp_path / work, config) for work in ("one", "two")
    )
    assert file_digest(one) == file_digest(two)
    assert [row["loss"] for row in rows(one)] == [row["loss"] for row in rows(two)]


def test_float16_skips_a_step_that_overflows_and_goes_on(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = quick("machine.amp=fp16", "machine.checkpoint_steps=1", "machine.keep_last=100")
    path = train(with_loss(supervised(manifest, config), {3: 1e35}), tmp_path, config)
    overflowed = [row["overflowed"] for row in rows(path)]
    assert overflowed[3]
    assert not all(overflowed[4:])
    states = [load_checkpoint(file) for file in sorted(path.parent.glob("checkpoint-*.pt"))]
    for step, (before, after) in enumerate(itertools.pairwise(states)):
        same = torch.equal(before["model"]["fc.weight"], after["model"]["fc.weight"])
        assert same == overflowed[step]
        assert (after["scaler"]["scale"] < before["scaler"]["scale"]) == overflowed[step]


def test_float16_that_never_stops_overflowing_is_an_error(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = quick("machine.amp=fp16", "student.optim.steps=30")
    stage = with_loss(supervised(manifest, config), dict.fromkeys(range(30), 1e38))
    with pytest.raises(TrainingError, match=r"grad_norm is \w+ at step 20"):
        train(stage, tmp_path, config)


def test_without_float16_a_gradient_that_is_not_finite_stops_before_it_is_saved(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = quick("machine.checkpoint_steps=1")

    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return gradient * torch.inf

    stage = supervised(manifest, config)
    calls = [0]

    def spoil(terms: Terms) -> Terms:
        calls[0] += 1
        return {"loss": Bad.apply(terms["loss"])} if calls[0] == 3 else terms

    with pytest.raises(TrainingError, match=r"grad_norm is \w+ at step 2; videos of the batch"):
        train(with_terms(stage, spoil), tmp_path, config)
    state = load_checkpoint(tmp_path / "supervised" / CHECKPOINT)
    assert state["step"] == 2
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize(
    ("amp", "dtype"), [("off", torch.float32), ("bf16", torch.float16), ("fp16", torch.float16)]
)
def test_under_autocast_the_loader_delivers_float16(
    manifest: Manifest, tmp_path: Path, amp: str, dtype: torch.dtype
) -> None:
    config = quick(f"machine.amp={amp}", "student.optim.steps=1")
    stage = supervised(manifest, config)
    seen = []
    watching = watched(stage, lambda batches: seen.append(batches[0].views["clip"].dtype))
    train(watching, tmp_path, config)
    assert seen == [dtype]


def test_an_epoch_is_one_pass_of_the_shorter_stream(manifest: Manifest, tmp_path: Path) -> None:
    config = quick("labels={percent: 100, validation: 0.5}", "student.optim.batch_size=2")
    labelled = supervised(manifest, config).loaders[0]
    whole = supervised(manifest, quick("labels.percent=100")).loaders[0]
    stage = replace(supervised(manifest, config), loaders=(labelled, whole))
    assert (len(labelled.rows), len(whole.rows)) == (12, 24)
    assert stage.steps_per_epoch == 6
