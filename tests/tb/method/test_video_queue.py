"""The queue of earlier videos, alone and in training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.method.pretraining import PretrainStep, pretrain_stage
from tb.method.video_queue import VideoQueue
from tb.stage_kinds import StageKind
from tb.training.loop import train
from tb.training.metrics import METRICS, read_metrics
from tb.weights.checkpoint import file_digest, load_checkpoint
from tests.tb.conftest import QUICK
from tests.tb.steps import StoppedError, stopping_at, terms_of

QUEUED = (*QUICK, "pretrain.num_queued=5", "machine.tensorboard=false")


def embeddings(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, and embeddings that tell which row they are of."""
    numbers = torch.tensor(rows)
    return (
        numbers,
        numbers[:, None, None].expand(-1, 2, 128).float(),
        numbers[:, None, None, None].expand(-1, 2, 4, 128).float(),
    )


@pytest.mark.parametrize("size", [1, 3, 5, 12])
def test_it_holds_the_last_videos(size: int) -> None:
    queue, seen = VideoQueue(size), [7, 8, 9, 3, 7, 1, 2, 4]
    for begin in range(0, len(seen), 2):
        queue.push(*embeddings(seen[begin : begin + 2]))
    wanted = [row for begin in range(6, -1, -2) for row in seen[begin : begin + 2]][:size]
    held = queue.rows >= 0
    assert queue.rows[held].tolist() == wanted
    for kept in (queue.long, queue.short):
        assert torch.equal(kept[held].flatten(1)[:, 0], queue.rows[held].float())


def test_a_video_is_no_negative_of_itself_and_a_bad_one_of_none() -> None:
    queue = VideoQueue(4)
    queue.push(*embeddings([3, -1, 5]))
    others = queue.negatives(torch.tensor([3, 4])).others
    assert others.tolist() == [[False, False, True, False], [True, False, True, False]]


def test_training_fills_it_with_good_videos(manifest: Manifest) -> None:
    config = load_config("demo", (*QUEUED, "pretrain.optim.batch_size=3"))
    stage = pretrain_stage(StageKind.INVARIANT, manifest, config)
    assert isinstance(stage.step, PretrainStep)
    plain = replace(stage.step, queue=None)
    stage.model.eval()
    one, two = (batch for batch, _ in zip(stage.loaders[0].stream(), range(2), strict=False))
    # The first step has the negatives of the batch alone, the second has more of them.
    found, alone = (terms_of(step, (one,))["L_I"].item() for step in (stage.step, plain))
    assert found == pytest.approx(alone, rel=1e-6)
    more = terms_of(stage.step, (replace(two, bad=(1,)),))["L_I"]
    assert more > terms_of(plain, (two,))["L_I"] + 0.1
    assert isinstance(stage.memory, VideoQueue)
    rows = [*two.plan.rows.tolist(), *one.plan.rows.tolist()]
    rows[1] = -1
    assert stage.memory.rows.tolist() == rows[:5]
    assert not stage.memory.long.requires_grad


def test_only_what_needs_it_has_one(manifest: Manifest) -> None:
    queued, plain = (load_config("demo", texts) for texts in (QUEUED, QUICK))
    for kind, config, wanted in (
        (StageKind.INVARIANT, queued, True),
        (StageKind.TCLR, queued, True),
        (StageKind.DISTINCTIVE, queued, False),
        (StageKind.INVARIANT, plain, False),
    ):
        assert (pretrain_stage(kind, manifest, config).memory is not None) == wanted


def test_a_stopped_run_goes_on_bit_for_bit(manifest: Manifest, tmp_path: Path) -> None:
    config = load_config("demo", (*QUEUED, "pretrain.optim.steps=6"))
    stage = pretrain_stage(StageKind.INVARIANT, manifest, config)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 5), tmp_path / "one", config)
    one, two = (
        train(pretrain_stage(StageKind.INVARIANT, manifest, config), tmp_path / work, config)
        for work in ("one", "two")
    )
    assert file_digest(one) == file_digest(two)
    assert (load_checkpoint(one)["memory"]["rows"] >= 0).all()
    rows = [read_metrics(path.parent / METRICS) for path in (one, two)]
    assert [row["L_I"] for row in rows[0]] == [row["L_I"] for row in rows[1]]
