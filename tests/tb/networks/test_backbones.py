import json
from pathlib import Path

import pytest
import torch

from shards.errors import InputError
from tb.config.load_config import dump_yaml, load_config
from tb.networks.backbones import (
    BACKBONES,
    backbone_identity,
    build_backbone,
    identified_backbone,
)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_backbones_give_four_slices(name: str) -> None:
    backbone = build_backbone(name).eval()
    clips = torch.rand(1, 3, 8 if name == "slow_r50" else 16, 32, 32)
    with torch.no_grad():
        assert backbone(clips).shape == (1, backbone.feature_dim, 4, 1, 1)


def test_r3d_18_keeps_four_time_steps_of_sixteen_frames() -> None:
    trunk = build_backbone("r3d_18").trunk.eval()
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 16, 32, 32)).shape[2] == 4


def test_slow_r50_keeps_every_time_step() -> None:
    trunk = build_backbone("slow_r50").trunk.eval()
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 16, 32, 32)).shape[2] == 16


def test_unknown_backbone_is_named() -> None:
    with pytest.raises(InputError, match="no backbone 'slow_r5': choose one of slow_r50"):
        build_backbone("slow_r5")


def test_a_resnet_by_its_options() -> None:
    """`slow_r50`, spelled out: the same names, shapes and start."""
    torch.manual_seed(0)
    wanted = build_backbone("slow_r50")
    torch.manual_seed(0)
    found = build_backbone({"model_depth": 50, "stem_conv_kernel_size": [1, 7, 7]})
    assert found.feature_dim == wanted.feature_dim == 2048
    assert found.stock_head == "blocks.5.proj"
    for one, two in zip(wanted.state_dict().items(), found.state_dict().items(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])


def test_options_survive_the_settings(tmp_path: Path) -> None:
    options = {
        "model_depth": 101,
        "stem_dim_out": 8,
        "stem_conv_kernel_size": [3, 5, 5],
        "stage_conv_a_kernel_size": [3, 1, 1],
        "stage1_pool": "MaxPool3d",
    }
    config = load_config(None, [f"backbone={json.dumps(options)}"])
    assert config.backbone == options
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_an_i3d_by_its_options() -> None:
    """A pool after the first stage, by its name in torch.nn: one more block before the head."""
    backbone = build_backbone({"stem_dim_out": 4, "stage1_pool": "MaxPool3d"}).eval()
    assert backbone.stock_head == "blocks.6.proj"
    with torch.no_grad():
        assert backbone.trunk(torch.rand(1, 3, 8, 32, 32)).shape == (1, 128, 4, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_dept": 50}, "no option 'model_dept'; did you mean 'model_depth'"),
        ({"head": None}, "no option 'head'; choose from model_depth, norm"),
        ({"model_num_class": 3}, "no option 'model_num_class'"),
        ({"**": {"model_depth": 50}}, "no option '**'"),
        ({"model_depth": 18}, "PyTorchVideo cannot build it (18 is not in"),
        ({"stem_dim_out": "wide"}, "torch.nn has no class 'wide'"),
        ({"stem_conv_kernel_size": "(1, 7, 7)"}, "write numbers and lists without quotes"),
        ({"stage1_pool": "functional"}, "torch.nn has no class 'functional'"),
        ({"stage_temporal_stride": [1, 1]}, "PyTorchVideo cannot build it"),
        ({"model_depth": {"a": 1}}, "PyTorchVideo cannot build it"),
        ({50: 1}, "no option 50"),
        ({"model_depth": "exit()"}, "torch.nn has no class 'exit()'"),
    ],
)
def test_wrong_options_are_named_with_a_way_out(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_backbone(options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_former_call_in_text_is_no_backbone() -> None:
    with pytest.raises(InputError, match=r"no backbone 'create_resnet.*options of"):
        build_backbone("create_resnet(model_depth=50)")


def test_an_identity_leads_back_to_the_same_backbone() -> None:
    options = {"stem_dim_out": 8, "model_depth": 50}
    for setting in ("small", options):
        backbone = build_backbone(setting)
        assert backbone.identity == backbone_identity(setting)
        again = identified_backbone(backbone.identity)
        assert again.identity == backbone.identity
        assert again.state_dict().keys() == backbone.state_dict().keys()
    assert backbone_identity(options) == '{"model_depth": 50, "stem_dim_out": 8}'


def test_slow_r50_is_the_hubs() -> None:
    """Its stem sees one frame: the Kinetics weights of the hub have that shape."""
    stem = build_backbone("slow_r50").trunk.blocks[0].conv
    assert stem.weight.shape == (64, 3, 1, 7, 7)
