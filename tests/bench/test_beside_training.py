"""The bench of the loader beside a training runs, and its report has both places."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import beside_training
from shards.format.manifest import Manifest


@pytest.mark.slow
def test_a_step_changes_the_weights() -> None:
    """The trainer that a GPU has."""
    torch.manual_seed(0)
    backbone, device = torch.nn.Conv3d(3, 4, 3), torch.device("cpu")
    before = [parameter.detach().clone() for parameter in backbone.parameters()]
    launch = beside_training.training_step(backbone, torch.rand(2, 3, 4, 8, 8), device)
    launch()
    first = [parameter.detach().clone() for parameter in backbone.parameters()]
    launch()
    for values in (before, first):
        assert not any(map(torch.equal, values, backbone.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["fused", "dali"])
def test_a_short_run_reports_both_places(
    textured_shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    trainers = ["launches", "compiled"] if engine == "fused" else ["launches"]
    words = ["--shards", str(textured_shards.root), "--size", "16", "--batch-size", "2"]
    words += ["--engine", engine, "--trainers", *trainers, "--device", "cpu"]
    words += ["--seconds", "0.5", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", ["", *words, "--json", str(tmp_path / "out.json")])
    beside_training.main()
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["settings"]["engine"] == engine
    assert list(report["beside"]) == trainers
    for places in report["beside"].values():
        _check(places, report["costs"])


def _check(places: dict[str, Any], costs: dict[str, dict[str, float]]) -> None:
    for row in places.values():
        rounds = row.pop("rounds")
        assert rounds == {name: [value] for name, value in row.items()}  # there was one round
        assert all(value > 0 for value in row.values())
    assert places.pop(beside_training.OTHER).keys() == {"trainer_kept", "videos_per_s"}
    assert places.keys() == costs.keys() == set(beside_training.PLACES)
    for row in places.values():
        # What one round says of the trainer is consistent.
        assert row["trainer_kept"] * row["trainer_alone_per_s"] == pytest.approx(
            row["trainer_per_s"]
        )
    num_processes = {
        place: sum("process" in name for name in cost) for place, cost in costs.items()
    }
    assert num_processes == {"threads here": 1, "loader process": 2}
