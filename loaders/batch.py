"""Makes batches of rendered pixels: adds labels and keys, moves them to a device, notes faults."""

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from loaders.engines.engine import Rendered, StageTimes
from loaders.faults import FaultLog
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's batch of B videos.

    Attributes:
        views: Group name -> (B, *group shape, 3, T, H, W), in [0, 1] (or uint8, or normalised), and
            0 where there is no video. In memory it is (..., T, H, W, 3): flattening the leading
            axes gives channels_last_3d without a copy. The memory is used again once no tensor
            refers to it.
        labels: (B,) int64 class indices, -1 where unlabelled or padding.
        keys: B video keys, "" for padding.
        valid: (B,) bool, False for padding and for skipped videos.
        plan: What was drawn.
        times: Seconds that the workers spent on it.
    """

    views: dict[str, torch.Tensor]
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor
    plan: Plan
    times: StageTimes


@dataclass(frozen=True, kw_only=True)
class Assembler:
    """Makes batches from what an engine renders.

    Attributes:
        manifest: The manifest of the shards.
        spec: The views.
        labels: (number of rows in the manifest,) int64, -1 where hidden.
        device: Where batches end up.
        faults: What happens to bad videos.
    """

    manifest: Manifest
    spec: ViewSpec
    labels: np.ndarray
    device: torch.device
    faults: FaultLog

    def batches(self, rendered: Generator[Rendered]) -> Generator[Batch]:
        """Yields one batch for each, in order. Closing the generator closes `rendered`.

        Raises:
            LoaderError: While iterating: a bad video, or too many of them.
        """
        num_bad_of_epoch: Counter[int] = Counter()
        with closing(rendered):
            for one in rendered:
                self._note_faults(one, num_bad_of_epoch)
                batch = self._batch(one)
                # The batch's memory is used again once nobody refers to it, so this function must
                # not refer to the batch while the consumer has it.
                del one
                yield batch
                del batch

    def _note_faults(self, rendered: Rendered, num_bad_of_epoch: Counter[int]) -> None:
        for b, error in rendered.errors.items():
            self.faults.note(self.manifest.video(int(rendered.plan.rows[b])), error)
            num_bad_of_epoch[int(rendered.plan.epochs[b])] += 1
        if rendered.errors:
            self.faults.check(num_bad_of_epoch)

    def _batch(self, rendered: Rendered) -> Batch:
        plan = rendered.plan
        valid = plan.rows >= 0
        valid[list(rendered.errors)] = False
        keys = self.manifest.table.column("key").take(np.maximum(plan.rows, 0)).to_pylist()
        groups = zip(self.spec.groups, rendered.views, strict=True)
        return Batch(
            views={group.name: self._shaped(views, group.shape) for group, views in groups},
            labels=torch.from_numpy(np.where(valid, self.labels[plan.rows], -1)).to(self.device),
            keys=tuple(key if row >= 0 else "" for key, row in zip(keys, plan.rows, strict=True)),
            valid=torch.from_numpy(valid).to(self.device),
            plan=plan,
            times=rendered.times,
        )

    def _shaped(self, views: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        if self.device.type == "cuda" and not views.is_cuda:
            views = views.pin_memory().to(self.device, non_blocking=True)
        return views.view(len(views), *shape, *views.shape[2:]).movedim(-1, -4)
