"""Phase 1: each kind's terms; reflected windows, and several windows of one video."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from loaders import Batch
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb import losses
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.pretraining import pretrain_stage
from tb.stage_kinds import SELF_SUPERVISED, StageKind
from tb.training.stage import Stage
from tests.tb.conftest import QUICK
from tests.tb.ranks import freeze_statistics
from tests.tb.steps import terms_of
from tests.tb.test_losses import slow_nt_xent, slow_unpooled_loss

# Windows of 64 frames, because the demo's videos have 48 to 120.
MASKED = (
    *QUICK,
    "pretrain.clips.num_frames=8",
    "pretrain.optim.batch_size=6",
    "pretrain.mask_reflected=true",
)


@pytest.mark.parametrize("kind", SELF_SUPERVISED)
def test_each_teacher_has_its_own_terms(manifest: Manifest, config: Config, kind: str) -> None:
    stage = pretrain_stage(kind, manifest, config)
    terms = terms_of(stage.step, (next(stage.loaders[0].stream()),))
    wanted = {"invariant": {"L_I"}, "distinctive": {"L_D1", "L_D2"}}.get(kind)
    assert set(terms) - {"loss"} == (wanted or {"L_I", "L_D1", "L_D2"})
    total = sum(value.item() for name, value in terms.items() if name != "loss")
    assert terms["loss"].item() == pytest.approx(total, rel=1e-5)


def tclr(manifest: Manifest, *settings: str) -> Stage:
    """A stage with all three terms, whose embeddings do not depend on the rest of the batch."""
    config = load_config("demo", (*MASKED, *settings))
    stage = freeze_statistics(pretrain_stage(StageKind.TCLR, manifest, config))
    stage.model.eval()
    return stage


def mixed_batch(stage: Stage) -> Batch:
    """A batch with reflected windows and others."""
    return next(batch for batch in stage.loaders[0].stream() if 2 <= batch.plan.padded.sum() <= 4)


def with_padded(batch: Batch, padded: np.ndarray) -> Batch:
    return replace(batch, plan=replace(batch.plan, padded=padded))


def embedded(stage: Stage, batch: Batch) -> tuple[Tensor, Tensor]:
    """(B, 2, 4, D) slices of the long clips, and short clips."""
    with torch.no_grad():
        short = stage.model(batch.views["short"].flatten(0, 2))
        slices = stage.model.slices(stage.model.backbone(batch.views["long"].flatten(0, 1)))
    size = (len(batch.keys), 2, 4, -1)
    return slices.double().view(size), short.double().view(size)


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1), ("anchor-sum", 8), ("sum", 6)])
def test_reflected_windows_stay_out_of_the_distinctive_terms_alone(
    manifest: Manifest, reduction: str, factor: int
) -> None:
    stage = tclr(manifest, f"pretrain.pooled_reduction={reduction}")
    batch = mixed_batch(stage)
    slices, short = embedded(stage, batch)
    counted = torch.from_numpy(~batch.plan.padded)
    if reduction == "sum":
        factor = int(counted.sum())
    found = terms_of(stage.step, (batch,))
    pooled = [slow_nt_xent(video[0], video[1]) for video in short[counted]]
    assert found["L_D1"].item() == pytest.approx(factor * np.mean(pooled), rel=1e-4)
    unpooled = slow_unpooled_loss(slices[counted], short[counted])
    assert found["L_D2"].item() == pytest.approx(unpooled, rel=1e-4)
    unmasked = terms_of(tclr(manifest, "pretrain.mask_reflected=false").step, (batch,))
    assert torch.equal(found["L_I"], unmasked["L_I"])
    assert found["L_D2"].item() != pytest.approx(unmasked["L_D2"].item(), rel=1e-4)


def test_a_bad_video_stays_out_beside_reflected_ones(manifest: Manifest) -> None:
    stage = tclr(manifest)
    batch = mixed_batch(stage)
    bad = int(np.flatnonzero(~batch.plan.padded)[0])
    found = terms_of(stage.step, (replace(batch, bad=(bad,)),))
    padded = batch.plan.padded.copy()
    padded[bad] = True
    wanted = terms_of(stage.step, (with_padded(batch, padded),))
    assert torch.equal(found["L_D1"], wanted["L_D1"])
    assert torch.equal(found["L_D2"], wanted["L_D2"])


def test_without_reflected_windows_nothing_changes(manifest: Manifest) -> None:
    stage = tclr(manifest)
    batch = with_padded(mixed_batch(stage), np.zeros(6, dtype=bool))
    found = terms_of(stage.step, (batch,))
    wanted = terms_of(tclr(manifest, "pretrain.mask_reflected=false").step, (batch,))
    assert {name: value.item() for name, value in found.items()} == {
        name: value.item() for name, value in wanted.items()
    }


def test_where_all_windows_are_reflected_the_terms_are_zero(manifest: Manifest) -> None:
    stage = tclr(manifest)
    batch = with_padded(mixed_batch(stage), np.ones(6, dtype=bool))
    found = terms_of(stage.step, (batch,))
    assert found["L_D1"].item() == found["L_D2"].item() == 0
    (found["L_D1"] + found["L_D2"]).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in stage.model.parameters() if p.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


def test_too_few_videos_are_refused_with_what_to_do(manifest: Manifest) -> None:
    config = load_config("demo", [*QUICK, "pretrain.optim.batch_size=30"])
    one = replace(manifest, table=manifest.table.slice(int(manifest.indices("train")[0]), 1))
    for given, remedy in ((manifest, "--set pretrain.optim.batch_size=12"), (one, "so give more")):
        with pytest.raises(InputError, match=f"full of repeats; .*{remedy}$"):
            pretrain_stage(StageKind.INVARIANT, given, config)


def test_windows_of_one_video_are_no_negatives(manifest: Manifest) -> None:
    config = load_config(
        "demo", [*QUICK, "pretrain.optim.clips_per_video=20", "pretrain.optim.batch_size=24"]
    )
    stage = pretrain_stage(StageKind.INVARIANT, manifest, config)
    assert stage.steps_per_epoch == 20
    stage.model.eval()
    with torch.no_grad():
        batch = next(stage.loaders[0].stream())
        rows = torch.from_numpy(batch.plan.rows)
        assert len(np.unique(batch.plan.rows)) < 24
        short, long = (
            stage.model(views.flatten(0, -5)).view(*views.shape[:-4], -1)
            for views in (batch.views["short"], batch.views["long"])
        )
        found = terms_of(stage.step, (batch,))["L_I"]
    assert torch.allclose(found, losses.invariant_loss(long, short, videos=rows), rtol=1e-5)
    assert not torch.allclose(found, losses.invariant_loss(long, short), rtol=1e-3)
