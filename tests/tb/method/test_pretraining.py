"""Stage 1: each kind has its own terms."""

import pytest

from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.pretraining import pretrain_stage
from tb.stage_kinds import SELF_SUPERVISED


@pytest.mark.parametrize("kind", SELF_SUPERVISED)
def test_each_teacher_has_its_own_terms(manifest: Manifest, config: Config, kind: str) -> None:
    stage = pretrain_stage(kind, manifest, config)
    terms = stage.loss((next(stage.loaders[0].stream()),))
    wanted = {"invariant": {"L_I"}, "distinctive": {"L_D1", "L_D2"}}.get(kind)
    assert set(terms) - {"loss"} == (wanted or {"L_I", "L_D1", "L_D2"})
    total = sum(value.item() for name, value in terms.items() if name != "loss")
    assert terms["loss"].item() == pytest.approx(total, rel=1e-5)
