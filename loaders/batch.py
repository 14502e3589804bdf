"""Makes batches of rendered pixels: adds labels and keys, moves them to a device, notes faults."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch

from loaders.engines.engine import Rendered, WorkTimes
from loaders.faults import FaultLog
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from loaders.transfer import CopyStream, Transferred, transferred
from shards.format.manifest import Manifest
from shards.format.text_column import TextColumn


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
        bad: The places of skipped videos in the batch, known without asking the device.
        plan: What was drawn.
        times: Seconds that the workers spent on it.
    """

    views: dict[str, torch.Tensor]
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor
    bad: tuple[int, ...]
    plan: Plan
    times: WorkTimes


@dataclass(frozen=True, kw_only=True)
class Assembler:
    """Makes batches from what an engine renders.

    Attributes:
        manifest: The manifest of the shards.
        spec: The views.
        keys: The keys of all rows.
        labels: (number of rows in the manifest,) int64, -1 where hidden.
        device: Where batches end up.
        faults: What happens to bad videos.
        copies: Copies tensors to the device; None if it is the CPU.
        copies_views: Whether views are copied too; otherwise the engine puts them on the device.
    """

    manifest: Manifest
    spec: ViewSpec
    keys: TextColumn
    labels: np.ndarray
    device: torch.device
    faults: FaultLog
    copies: CopyStream | None = None
    copies_views: bool = True

    def batches(self, rendered: Generator[Rendered]) -> Generator[Batch]:
        """Yields one batch for each item, in order. Closing the generator closes `rendered`.

        Raises:
            LoaderError: While iterating: a bad video, or too many of them.
        """
        tensors = self._tensors(rendered)
        if self.copies is not None and self.copies_views:
            tensors = transferred(tensors, self.copies)
        num_bad_of_epoch: Counter[int] = Counter()
        with closing(tensors):
            for one in tensors:
                self._note_faults(one.rest, num_bad_of_epoch)
                batch = self._batch(one.rest, one.tensors)
                # The batch's memory is used again once nobody refers to it, so this function must
                # not refer to the batch while the consumer has it.
                del one
                yield batch
                del batch

    def _tensors(self, rendered: Generator[Rendered]) -> Generator[Transferred[Rendered]]:
        """Yields each item with its tensors: labels and `valid`, then the views of each group.

        If there are copies, labels and `valid` are one tensor, see `_packed`.
        """
        with closing(rendered):
            for one in rendered:
                rows = one.plan.rows
                valid = rows >= 0
                valid[list(one.errors)] = False
                labels = np.where(valid, self.labels[rows], -1)
                if self.copies is None:
                    small = [torch.from_numpy(labels), torch.from_numpy(valid)]
                else:
                    small = [_packed(labels, valid, self.device)]
                    if not self.copies_views:
                        # PyTorch keeps the pinned memory until the copy is over.
                        small = self.copies.copy(small).take()
                arrays: Sequence[np.ndarray | torch.Tensor] = one.views
                pairs = zip(arrays, self.spec.groups, strict=True)
                views = [_shaped(array, group.shape) for array, group in pairs]
                one = replace(one, views=[])
                item = Transferred(one, [*small, *views])
                del arrays, pairs, views, one
                yield item
                del item

    def _note_faults(self, rendered: Rendered, num_bad_of_epoch: Counter[int]) -> None:
        for b, error in rendered.errors.items():
            self.faults.note(self.manifest.video(int(rendered.plan.rows[b])), error)
            num_bad_of_epoch[int(rendered.plan.epochs[b])] += 1
        if rendered.errors:
            self.faults.check(num_bad_of_epoch)

    def _batch(self, rendered: Rendered, tensors: list[torch.Tensor]) -> Batch:
        plan = rendered.plan
        if self.copies is not None:
            tensors = [*_unpacked(tensors[0], len(plan.rows)), *tensors[1:]]
        labels, valid, *views = tensors
        keys = self.keys.take(np.maximum(plan.rows, 0))
        return Batch(
            views=dict(zip((group.name for group in self.spec.groups), views, strict=True)),
            labels=labels,
            keys=tuple(key if row >= 0 else "" for key, row in zip(keys, plan.rows, strict=True)),
            valid=valid,
            bad=tuple(sorted(rendered.errors)),
            plan=plan,
            times=rendered.times,
        )


def _packed(labels: np.ndarray, valid: np.ndarray, device: torch.device) -> torch.Tensor:
    """The bytes of both, pinned for a GPU: one copy, after which the device computes nothing."""
    packed = torch.from_numpy(np.concatenate([labels.view(np.uint8), valid.view(np.uint8)]))
    return packed.pin_memory() if device.type == "cuda" else packed


def _unpacked(packed: torch.Tensor, num_videos: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels (B,) int64 and `valid` (B,) bool."""
    end = 8 * num_videos
    return packed[:end].view(torch.int64), packed[end:].view(torch.bool)


def _shaped(views: np.ndarray | torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """(B, V, T, S, S, 3) as (B, *shape, 3, T, S, S), without a copy."""
    grouped = (len(views), *shape, *views.shape[2:])
    axes = (*range(len(grouped) - 4), -1, -4, -3, -2)
    if isinstance(views, torch.Tensor):
        return views.view(grouped).permute(axes)
    # NumPy gives it its shape, because each call of torch releases the interpreter.
    return torch.from_numpy(views.reshape(grouped).transpose(axes))
