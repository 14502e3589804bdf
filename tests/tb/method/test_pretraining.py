"""Stage 1: each kind has its own terms, and several windows of a video are no strangers."""

import numpy as np
import pytest
import torch

from shards.format.manifest import Manifest
from tb import losses
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.pretraining import pretrain_stage
from tb.stage_kinds import SELF_SUPERVISED, StageKind
from tests.tb.conftest import QUICK


@pytest.mark.parametrize("kind", SELF_SUPERVISED)
def test_each_teacher_has_its_own_terms(manifest: Manifest, config: Config, kind: str) -> None:
    stage = pretrain_stage(kind, manifest, config)
    terms = stage.loss((next(stage.loaders[0].stream()),))
    wanted = {"invariant": {"L_I"}, "distinctive": {"L_D1", "L_D2"}}.get(kind)
    assert set(terms) - {"loss"} == (wanted or {"L_I", "L_D1", "L_D2"})
    total = sum(value.item() for name, value in terms.items() if name != "loss")
    assert terms["loss"].item() == pytest.approx(total, rel=1e-5)


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
        found = stage.loss((batch,))["L_I"]
    assert torch.allclose(found, losses.invariant_loss(long, short, videos=rows), rtol=1e-5)
    assert not torch.allclose(found, losses.invariant_loss(long, short), rtol=1e-3)
