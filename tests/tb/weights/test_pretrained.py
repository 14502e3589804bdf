"""Weights from files: taken over strictly, or refused by name."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from loaders.plan.normalization import NORMALIZATIONS
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.finetuning import finetune_stage
from tb.networks.backbones import build_backbone, identified_backbone
from tb.networks.heads import Classifier, Embedder
from tb.stage_kinds import Teacher
from tb.weights.checkpoint import file_digest, load_model
from tb.weights.export import export_weights
from tb.weights.pretrained import load_pretrained
from tests.tb.weights.stock import (
    NARROW,
    NUM_CLASSES,
    settle,
    stock,
    without_values,
    write_checkpoint,
)


@pytest.fixture(scope="module", params=["slow_r50", "r3d_18", NARROW])
def stock_weights(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    """The name of a backbone, and the state dict of its stock network."""
    return request.param, settle(stock(request.param, num_classes=400)).state_dict()


@pytest.mark.parametrize("kind", ["plain", "wrapped", "safetensors"])
def test_stock_weights_are_taken_over(
    stock_weights: tuple[str, dict[str, Tensor]],
    kind: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    name, state = stock_weights
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, path, {"input": "RGB"})  # of others, and not ours to read
    else:
        torch.save({"model_state": state} if kind == "wrapped" else state, path)
    backbone = without_values(lambda: identified_backbone(name))
    assert load_pretrained(path, backbone, None) == file_digest(path)
    for key, value in backbone.trunk.state_dict().items():
        assert torch.equal(value, state[key])
    out = caplog.text
    assert "left out the classifier" in out
    assert f"{backbone.stock_head}.weight" in out
    # The networks' libraries publish weights for normalised clips.
    expected = "kinetics" if name == "r3d_18" else "pytorchvideo"
    assert f"--set normalization={expected}" in out
    caplog.clear()
    load_pretrained(path, backbone, NORMALIZATIONS[expected])
    assert "normalization" not in caplog.text


def test_own_files_are_taken_over(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = settle(Classifier(build_backbone("small"), NUM_CLASSES))
    checkpoint, export = tmp_path / "checkpoint.pt", tmp_path / "weights.safetensors"
    write_checkpoint(checkpoint, model, "small")
    export_weights(checkpoint, export)
    for path in (checkpoint, export):
        backbone = build_backbone("small")
        assert load_pretrained(path, backbone, None) == file_digest(path)
        for key, value in model.backbone.state_dict().items():
            assert torch.equal(value, backbone.state_dict()[key])


def test_a_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, parsed, load = tmp_path / "checkpoint.pt", [], torch.load

    def counted(file: Path, **options: object) -> object:
        parsed.append(file)
        return load(file, **options)

    write_checkpoint(path, Classifier(build_backbone("small"), NUM_CLASSES), "small")
    monkeypatch.setattr(torch, "load", counted)
    load_pretrained(path, build_backbone("small"), None)
    assert parsed == [path]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = settle(stock(NARROW)).state_dict()
    backbone = identified_backbone(NARROW)

    def complaint(changed: object) -> str:
        torch.save(changed, path)
        with pytest.raises(InputError) as caught:
            load_pretrained(path, backbone, None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    key = "blocks.1.res_blocks.0.branch1_conv.weight"
    total = len(backbone.trunk.state_dict())
    without = {name: value for name, value in state.items() if name != key}
    assert f"lacks 1 of {total} tensors ({key} ...)" in complaint(without)
    assert "has 1 more (extra.weight ...)" in complaint({**state, "extra.weight": state[key]})
    assert f"has 1 of another shape ({key} ...)" in complaint({**state, key: torch.zeros(1)})
    assert f"lacks 1 of {total} tensors" in complaint({**state, key: "text"})
    assert "not weights of backbone '{\"stem_conv_kernel" in complaint(stock("r3d_18").state_dict())
    assert "not a state dict" in complaint([1, 2])
    assert "not a state dict" in complaint({1: 2})


def test_unreadable_and_unfinished_files_are_named(tmp_path: Path) -> None:
    backbone = build_backbone("small")
    for name in ("weights.pth", "weights.safetensors"):
        with pytest.raises(InputError, match="no such checkpoint"):
            load_pretrained(tmp_path / name, backbone, None)
        (tmp_path / name).write_bytes(b"rubbish")
        with pytest.raises(InputError, match=f"{name}: not a readable"):
            load_pretrained(tmp_path / name, backbone, None)
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, Embedder(backbone), "small", step=3)
    with pytest.raises(InputError, match="training stopped at step 3 of 7"):
        load_pretrained(path, backbone, None)
    with pytest.raises(InputError, match=r"name it \*\.safetensors"):
        export_weights(path, tmp_path / "weights.pt")
    export_weights(path, tmp_path / "weights.safetensors")
    other = without_values(lambda: build_backbone("r3d_18"))
    with pytest.raises(InputError, match="weights of backbone 'small', but this run uses 'r3d_18'"):
        load_pretrained(tmp_path / "weights.safetensors", other, None)


def test_own_files_are_refused_for_clips_of_another_scale(tmp_path: Path) -> None:
    backbone, kinetics = build_backbone("small"), NORMALIZATIONS["kinetics"]
    clips = {"num_frames": 4, "stride": 2, "stride_s": None, "size_px": 16}
    settings = {"classify": {"clips": clips}, "normalization": asdict(kinetics)}
    checkpoint, export = tmp_path / "checkpoint.pt", tmp_path / "weights.safetensors"
    model = Classifier(backbone, NUM_CLASSES)
    write_checkpoint(checkpoint, model, "small", settings=json.dumps(settings))
    assert json.loads(export_weights(checkpoint, export)["input"]) == {
        **clips,
        "num_clips": 10,
        "num_crops": 1,
        "normalization": json.loads(json.dumps(asdict(kinetics))),
    }
    for path in (checkpoint, export):
        load_pretrained(path, backbone, kinetics)
        with pytest.raises(
            InputError, match="trained with normalization kinetics, but this run's is"
        ):
            load_pretrained(path, backbone, None)
    classes = [f"class {index}" for index in range(NUM_CLASSES)]
    load_model(checkpoint, model, classes=classes, normalization=kinetics)
    with pytest.raises(InputError, match=r"is imagenet; give another .* normalization=kinetics"):
        load_model(checkpoint, model, classes=classes, normalization=NORMALIZATIONS["imagenet"])


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",)

    torch.save({"trap": Trap()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_pretrained(tmp_path / "weights.pth", build_backbone("small"), None)
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
