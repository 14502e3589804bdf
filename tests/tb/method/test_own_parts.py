"""Users' own losses and augmentations, on made-up batches."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch

from loaders import Batch
from loaders.engines.engine import WorkTimes
from loaders.plan.draw import Plan
from shards.format.manifest import Manifest
from tb.method.augmentation import NUM_DRAWS, DrawnAugmentation
from tb.method.baselines import MethodLoss
from tb.training.bad_videos import PartlyBad
from tb.training.step_values import Terms


def made_batch(views: dict[str, torch.Tensor], plan: object) -> Batch:
    """A batch of these views."""
    size = len(next(iter(views.values())))
    valid = torch.ones(size, dtype=torch.bool)
    labels = torch.zeros(size, dtype=torch.int64)
    return Batch(
        views=views,
        labels=labels,
        keys=("",) * size,
        valid=valid,
        bad=(),
        plan=cast(Plan, plan),
        times=WorkTimes(),
    )


class Own(MethodLoss):
    def terms(self, labelled: Batch, unlabelled: Batch) -> Terms:
        raise NotImplementedError


def test_the_mean_of_a_method_leaves_out_bad_videos() -> None:
    method = Own(model=None, settings=None)  # type: ignore[arg-type]
    batch, values = (
        made_batch({"clip": torch.zeros(4, 1)}, None),
        torch.tensor([1.0, 2.0, 6.0, 50.0]),
    )
    assert method.mean(values, batch) == 14.75
    batch.valid[3] = False
    assert method.mean(values, PartlyBad(**vars(batch), num_good=3)) == 3


def test_an_augmentation_depends_on_seed_epoch_and_video_alone(manifest: Manifest) -> None:
    """Each view gets draws of its own, whatever stands in its batch."""
    seen: dict[tuple[int, int], list[torch.Tensor]] = {}

    def note(clips: torch.Tensor, draws: torch.Tensor, group: str) -> torch.Tensor:
        assert draws.shape == (len(clips), NUM_DRAWS)
        return clips + draws.sum(dim=1).view(-1, 1, 1, 1, 1)

    def look(*batches: Batch) -> None:
        for batch in map(augmented, batches):
            for b, (row, epoch) in enumerate(zip(batch.plan.rows, batch.plan.epochs, strict=True)):
                added = [views[b].flatten() for views in batch.views.values()]
                seen.setdefault((int(row), int(epoch)), []).append(torch.cat(added))

    def batch(rows: list[int], epoch: int) -> Batch:
        views = {"short": torch.zeros(len(rows), 2, 4, 1, 1, 1, 1)}
        views["long"] = torch.zeros(len(rows), 2, 1, 1, 1, 1)
        zeros = np.zeros(len(rows), np.int64)
        plan = SimpleNamespace(rows=np.array(rows), epochs=zeros + epoch, clips=zeros)
        return made_batch(views, plan)

    augmented = DrawnAugmentation(augment=note, name="note", seed=3)
    look(batch([5, 7], 0), batch([7, 9, 5], 0))
    look(batch([7], 1))
    for row in (5, 7):
        one, two = seen[row, 0]
        assert torch.equal(one, two)
    every = torch.cat([views for found in seen.values() for views in found[:1]])
    assert len(every.unique()) == len(every) == 4 * 10
    augmented = replace(augmented, seed=4)
    look(batch([5], 0))
    assert not torch.equal(seen[5, 0][0], seen[5, 0][-1])
