import os
from pathlib import Path

import pytest
import torch

from shards.errors import InputError
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.weights.checkpoint import load_backbone, load_checkpoint, load_model, save_checkpoint


class Exploit:
    """Would run a command if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploited",)


def classifier_state(num_classes: int = 3) -> dict[str, object]:
    model = Classifier(build_backbone("small"), num_classes)
    return {
        "backbone": "small",
        "step": 1,
        "steps": 1,
        "classes": [f"c{label}" for label in range(num_classes)],
        "model": model.state_dict(),
    }


def test_round_trip_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoint.pt"
    save_checkpoint(path, {"step": 3, "model": {"w": torch.arange(3.0)}})
    state = load_checkpoint(path)
    assert state["step"] == 3
    assert torch.equal(state["model"]["w"], torch.arange(3.0))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": Exploit()}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=r"bad\.pt: not a readable checkpoint"):
        load_checkpoint(tmp_path / "bad.pt")
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("content", [b"", b"plain text", b"PK\x03\x04 cut off"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt: not a readable checkpoint"):
        load_checkpoint(path)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign.pt")
    with pytest.raises(InputError, match=r"foreign\.pt: not a checkpoint of this program"):
        load_checkpoint(tmp_path / "foreign.pt")


def test_another_backbone_is_refused_with_both_names(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, classifier_state())
    with pytest.raises(InputError, match=r"backbone 'small', but this run uses 'r3d_18'.*--set"):
        load_backbone(path, load_checkpoint(path), build_backbone("r3d_18"), None)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, classifier_state(3))
    model = Classifier(build_backbone("small"), 4)
    with pytest.raises(InputError, match="it has 3 classes, and this set has 4"):
        load_model(path, model, classes=["a", "b", "c", "d"], normalization=None)
    with pytest.raises(InputError, match="its class 1 is 'c1', this set's is 'b'"):
        load_model(path, model, classes=["c0", "b", "c2"], normalization=None)
    with pytest.raises(InputError, match="a classifier, where a self-supervised"):
        load_model(path, model, classes=[], normalization=None)


def test_a_backbone_comes_out_of_any_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    state = classifier_state()
    save_checkpoint(path, state)
    backbone = build_backbone("small")
    load_backbone(path, load_checkpoint(path), backbone, None)
    weights = state["model"]
    assert isinstance(weights, dict)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, weights[f"backbone.{name}"])
