"""Exports: the stock networks load them."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tb.networks.backbones import build_backbone, identified_backbone
from tb.networks.heads import Classifier, Embedder, to_channels_last
from tb.weights.checkpoint import file_digest
from tb.weights.export import export_weights
from tests.tb.commands import process
from tests.tb.weights.stock import (
    NARROW,
    NUM_CLASSES,
    settle,
    stock,
    without_values,
    write_checkpoint,
)


@pytest.mark.parametrize("name", ["slow_r50", NARROW, "r3d_18"])
def test_the_stock_network_loads_an_export_strictly(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = without_values(lambda: Classifier(identified_backbone(name), NUM_CLASSES))
    settle(to_channels_last(ours))
    write_checkpoint(tmp_path / "run" / "checkpoint.pt", ours, name)
    out = tmp_path / "weights.safetensors"
    metadata = export_weights(tmp_path / "run", out)
    theirs = stock(name)
    theirs.load_state_dict(load_file(out), strict=True)
    clips = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad():
        wanted, found = ours(clips), theirs(clips)
        assert wanted.std() > 0
        # The stock r3d_18 is ours but for the stride in time.
        assert torch.allclose(found, wanted, atol=1e-4) == (name != "r3d_18")
        if name == "r3d_18":
            first = theirs.layer4[0].conv1[0]
            first.stride, first.dilation, first.padding = (1, 2, 2), (2, 1, 1), (2, 1, 1)
            theirs.layer4[0].downsample[0].stride = (1, 2, 2)
            clips = torch.rand(1, 3, 16, 32, 32)
            assert torch.allclose(theirs(clips), ours(clips), atol=1e-4)
    assert ("note" in metadata) == (name == "r3d_18")
    with safe_open(out, framework="pt") as file:
        assert file.metadata() == metadata
    assert metadata["backbone"] == name
    assert json.loads(metadata["classes"])[1] == "class 1"
    assert metadata["source"] == file_digest(tmp_path / "run" / "checkpoint.pt")


@pytest.mark.slow
def test_the_hub_network_with_its_own_head_gives_the_same_logits(tmp_path: Path) -> None:
    """8 frames at 224 px, which its fixed pool of (8, 7, 7) needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models.hub import slow_r50
    ours = settle(Classifier(build_backbone("slow_r50"), NUM_CLASSES))
    write_checkpoint(tmp_path / "checkpoint.pt", ours, "slow_r50")
    export_weights(tmp_path, tmp_path / "weights.safetensors")
    theirs = slow_r50(pretrained=False, model_num_class=NUM_CLASSES).eval()
    theirs.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    clips = torch.rand(1, 3, 8, 224, 224)
    with torch.no_grad():
        assert torch.allclose(theirs(clips), ours(clips), atol=1e-4)


def test_a_self_supervised_export_holds_the_trunk_alone(tmp_path: Path) -> None:
    model = Embedder(build_backbone("small"))
    write_checkpoint(tmp_path / "checkpoint.pt", model, "small", stage="tclr")
    metadata = export_weights(tmp_path / "checkpoint.pt", tmp_path / "weights.safetensors")
    tensors = load_file(tmp_path / "weights.safetensors")
    assert tensors.keys() == model.backbone.trunk.state_dict().keys()
    assert json.loads(metadata["classes"]) == []


def test_an_export_is_the_same_file_every_time(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", Classifier(build_backbone("small"), 5), "small")
    export_weights(tmp_path, tmp_path / "one.safetensors")
    two = tmp_path / "two.safetensors"
    done = process("export", tmp_path, "--out", two)  # where strings have other hashes
    assert done.returncode == 0, done.stderr
    assert two.read_bytes() == (tmp_path / "one.safetensors").read_bytes()
