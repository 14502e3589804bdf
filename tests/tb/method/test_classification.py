"""What stages that train a classifier share."""

from pathlib import Path

import torch

from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage


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
    first = stage.loss(batches)["loss"].item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = stage.loss(batches)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < first / 2
