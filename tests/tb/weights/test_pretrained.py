import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.kinds import Teacher
from tb.method.finetuning import finetune_stage
from tb.networks.backbones import build_backbone, identified_backbone
from tb.networks.heads import Classifier, Embedder, to_channels_last
from tb.weights.checkpoint import file_digest, save_checkpoint
from tb.weights.export import export_weights
from tb.weights.pretrained import load_pretrained

NUM_CLASSES = 5
NARROW = '{"stem_conv_kernel_size": [3, 5, 5], "stem_dim_out": 8}'  # an identity


def stock(name: str, num_classes: int = NUM_CLASSES) -> nn.Module:
    """The stock library's own network, in eval mode."""
    if name == "r3d_18":
        from torchvision.models.video import r3d_18

        return r3d_18(weights=None, num_classes=num_classes).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models.hub import slow_r50
        from pytorchvideo.models.resnet import create_resnet

        options = {"model_num_class": num_classes, "head_pool": nn.AdaptiveAvgPool3d}
        if name == "slow_r50":
            return slow_r50(pretrained=False, **options).eval()
        return create_resnet(**options, stem_dim_out=8, stem_conv_kernel_size=(3, 5, 5)).eval()


def settle(model: nn.Module) -> nn.Module:
    """The model with weights and running statistics as if trained: no two layers alike."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            is_scale = name.endswith(("running_var", "norm.weight", "1.weight"))
            value.copy_(0.5 + noise if is_scale else value + 0.05 * (noise - 0.5))
    return model.eval()


def write_checkpoint(path: Path, model: nn.Module, name: str, **changes: object) -> None:
    classes = [f"class {index}" for index in range(NUM_CLASSES)]
    state = {
        "stage": "student",
        "backbone": name,
        "classes": classes if isinstance(model, Classifier) else [],
        "step": 7,
        "steps": 7,
        "model": model.state_dict(),
    }
    save_checkpoint(path, {**state, **changes})


@pytest.mark.parametrize("name", ["slow_r50", NARROW, "r3d_18"])
def test_the_stock_network_loads_an_export_strictly(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = Classifier(identified_backbone(name), NUM_CLASSES)
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
    # The stock r3d_18 strides in time where ours does not.
    assert torch.allclose(found, wanted, atol=1e-4) == (name != "r3d_18")
    assert ("note" in metadata) == (name == "r3d_18")
    with safe_open(out, framework="pt") as file:
        assert file.metadata() == metadata
    assert metadata["backbone"] == name
    assert json.loads(metadata["classes"])[1] == "class 1"
    assert metadata["source"] == file_digest(tmp_path / "run" / "checkpoint.pt")


def test_r3d_18_is_the_stock_network_but_for_the_stride_in_time(tmp_path: Path) -> None:
    ours = settle(Classifier(build_backbone("r3d_18"), NUM_CLASSES))
    write_checkpoint(tmp_path / "checkpoint.pt", ours, "r3d_18")
    export_weights(tmp_path, tmp_path / "weights.safetensors")
    theirs = stock("r3d_18")
    theirs.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    first = theirs.layer4[0].conv1[0]
    first.stride, first.dilation, first.padding = (1, 2, 2), (2, 1, 1), (2, 1, 1)
    theirs.layer4[0].downsample[0].stride = (1, 2, 2)
    clips = torch.rand(1, 3, 16, 32, 32)
    with torch.no_grad():
        assert torch.allclose(theirs(clips), ours(clips), atol=1e-4)


@pytest.mark.slow
def test_the_hub_network_with_its_own_head_gives_the_same_logits(tmp_path: Path) -> None:
    """8 frames at 224 px: what its fixed pool of (8, 7, 7) is made for."""
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
    code = (
        "import sys; from pathlib import Path; from tb.weights.export import export_weights;"
        "export_weights(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    two = tmp_path / "two.safetensors"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path, two], check=True)
    assert two.read_bytes() == (tmp_path / "one.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["slow_r50", "r3d_18", NARROW])
@pytest.mark.parametrize("kind", ["plain", "wrapped", "safetensors"])
def test_stock_weights_are_taken_over(
    name: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    torch.manual_seed(1)
    theirs = settle(stock(name, num_classes=400))
    state = theirs.state_dict()
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model_state": state} if kind == "wrapped" else state, path)
    backbone = identified_backbone(name)
    assert load_pretrained(path, backbone) == file_digest(path)
    for key, value in backbone.trunk.state_dict().items():
        assert torch.equal(value, state[key])
    out = caplog.text
    assert "left out the classifier" in out
    assert f"{backbone.stock_head}.weight" in out


def test_own_files_are_taken_over(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = settle(Classifier(build_backbone("small"), NUM_CLASSES))
    checkpoint, export = tmp_path / "checkpoint.pt", tmp_path / "weights.safetensors"
    write_checkpoint(checkpoint, model, "small")
    export_weights(checkpoint, export)
    for path in (checkpoint, export):
        backbone = build_backbone("small")
        assert load_pretrained(path, backbone) == file_digest(path)
        for key, value in model.backbone.state_dict().items():
            assert torch.equal(value, backbone.state_dict()[key])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = stock(NARROW).state_dict()
    backbone = identified_backbone(NARROW)

    def complaint(changed: object) -> str:
        torch.save(changed, path)
        with pytest.raises(InputError) as caught:
            load_pretrained(path, backbone)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    key = "blocks.1.res_blocks.0.branch1_conv.weight"
    total = len(backbone.trunk.state_dict())
    without = {name: value for name, value in state.items() if name != key}
    assert f"lacks 1 of {total} tensors ({key} ...)" in complaint(without)
    assert "has 1 others (extra.weight ...)" in complaint({**state, "extra.weight": state[key]})
    assert f"has 1 of another shape ({key} ...)" in complaint({**state, key: torch.zeros(1)})
    assert f"lacks 1 of {total} tensors" in complaint({**state, key: "text"})
    assert "not weights of backbone '{\"stem_conv_kernel" in complaint(stock("r3d_18").state_dict())
    assert "not a state dict" in complaint([1, 2])
    assert "not a state dict" in complaint({1: 2})


def test_unreadable_and_unfinished_files_are_named(tmp_path: Path) -> None:
    backbone = build_backbone("small")
    for name in ("weights.pth", "weights.safetensors"):
        with pytest.raises(InputError, match="no such checkpoint"):
            load_pretrained(tmp_path / name, backbone)
        (tmp_path / name).write_bytes(b"rubbish")
        with pytest.raises(InputError, match=f"{name}: not a readable"):
            load_pretrained(tmp_path / name, backbone)
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, Embedder(backbone), "small", step=3)
    with pytest.raises(InputError, match="training stopped at step 3 of 7"):
        load_pretrained(path, backbone)
    with pytest.raises(InputError, match=r"name it \*\.safetensors"):
        export_weights(path, tmp_path / "weights.pt")
    export_weights(path, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="weights of backbone 'small', but this run uses 'r3d_18'"):
        load_pretrained(tmp_path / "weights.safetensors", build_backbone("r3d_18"))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",)

    torch.save({"trap": Trap()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_pretrained(tmp_path / "weights.pth", build_backbone("small"))
    assert not (tmp_path / "sprung").exists()


def test_finetuning_starts_from_a_stock_state_dict(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    trunk = build_backbone("small").trunk.state_dict()
    path = tmp_path / "published.pth"
    torch.save({"state_dict": trunk}, path)
    stage = finetune_stage(Teacher.INVARIANT, manifest, config, path)
    found = stage.model.get_submodule("backbone.trunk").state_dict()
    assert all(torch.equal(found[name], value) for name, value in trunk.items())
    assert stage.settings["init"] == file_digest(path)
