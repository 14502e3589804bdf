"""What is compiled."""

from pathlib import Path

import pytest
from torch import nn

from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.stages import build_stage
from tb.networks.backbones import Backbone
from tb.stage_kinds import StageKind
from tb.training.preparation import NOT_COMPILED, compile_backbones


def _compiled(network: nn.Module) -> list[bool]:
    return [
        module._compiled_call_impl is not None
        for module in network.modules()
        if isinstance(module, Backbone)
    ]


@pytest.mark.parametrize("kind", [StageKind.STUDENT, StageKind.MEAN_TEACHER])
def test_every_network_of_a_step_is_compiled(
    kind: StageKind, manifest: Manifest, config: Config, finished: Path
) -> None:
    stage = build_stage(kind, manifest, config, finished)
    others = [*stage.frozen, *([stage.average] if stage.average else [])]
    assert len(others) == (2 if kind is StageKind.STUDENT else 1)
    compile_backbones(stage, NOT_COMPILED)
    assert not any(_compiled(stage.model))
    compile_backbones(stage, "default")
    for network in (stage.model, *others):
        assert _compiled(network) == [True]
    stage.close()
