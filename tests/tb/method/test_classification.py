"""What stages that train a classifier share."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from loaders.plan.normalization import NORMALIZATIONS
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tb.config.sections import Config
from tb.evaluation.evaluate import evaluate
from tb.method.baselines import supervised_only_stage
from tb.prediction.classifier import load_trained
from tb.training.loop import train
from tests.tb.steps import terms_of


def test_a_label_list_decides_who_is_labelled(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    rows = [int(manifest.indices("train")[place]) for place in (3, 7, 20)]
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"{manifest.keys[row]} {manifest.labels[row]}\n" for row in rows))
    labels = config.labels.model_copy(update={"file": str(path)})
    stage = supervised_only_stage(manifest, config.model_copy(update={"labels": labels}))
    assert sorted(stage.loaders[0].rows.tolist()) == sorted(rows)
    assert list(stage.settings["labels"]) == ["file"]


def test_one_batch_can_be_learnt_by_heart(manifest: Manifest, config: Config) -> None:
    """The network, the loss and the gradient belong together."""
    stage = supervised_only_stage(manifest, config)
    batches = (next(stage.loaders[0].stream()),)
    optimizer = torch.optim.Adam(stage.model.parameters(), lr=3e-3)
    first = terms_of(stage.step, batches)["loss"].item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = terms_of(stage.step, batches)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < first / 2


def test_training_and_evaluation_see_normalised_clips_and_say_so(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    kinetics = NORMALIZATIONS["kinetics"]
    normalised = config.model_copy(update={"normalization": kinetics})
    stage = supervised_only_stage(manifest, normalised)
    plain = supervised_only_stage(manifest, config)
    assert "normalization" not in plain.settings
    shown, before = (next(one.loaders[0].stream()).views["clip"] for one in (stage, plain))
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (kinetics.mean, kinetics.std))
    torch.testing.assert_close(shown, (before - mean) / std, rtol=1e-4, atol=1e-4)
    train(stage, tmp_path, normalised)
    assert evaluate("supervised", manifest, normalised, tmp_path).source["normalization"] == {
        "mean": list(kinetics.mean),
        "std": list(kinetics.std),
    }
    # A prediction sees the clips that the evaluation saw.
    table = pq.read_table(tmp_path / "supervised" / "predictions-test.parquet").to_pylist()
    row = manifest.row_of(table[0]["key"])
    with ShardReader(manifest) as reader:
        (tmp_path / "a.mp4").write_bytes(reader.read(row))
    (found,) = load_trained(tmp_path / "supervised").predict(tmp_path / "a.mp4")
    assert found.probabilities.tolist() == pytest.approx(table[0]["probabilities"], abs=1e-5)
    # A run goes on, and is evaluated, only with the clips that it was trained on.
    train(supervised_only_stage(manifest, normalised), tmp_path, normalised)
    with pytest.raises(InputError, match="normalization"):
        train(plain, tmp_path, config)
    with pytest.raises(InputError, match="trained with normalization kinetics, but this run's"):
        evaluate("supervised", manifest, config, tmp_path, peek=True)
