"""Bad videos in training, under `machine.on_error=skip`: left out, named and counted.

By default (`raise`), the first one ends training with an error that names it (`loaders.faults`).

A batch keeps its shape, because other shapes would compile the networks again. In a bad video's
place the networks see a copy of a good one of the same batch, so that batch norm never sees black
clips. The losses give the copy the weight 0, so no gradient comes from it.

If a process has a batch without any good video, all processes leave the step out: nothing is
updated, and its loss does not count.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from loaders import Batch, Loader
from shards.files.json_lines import append_line, read_lines
from tb.training.distributed import mean

BAD_LIST = "bad.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PartlyBad(Batch):
    """A batch with bad videos, here or in another process; copies of good videos replace them.

    Attributes:
        num_good: The number of good videos, mean over all processes.
    """

    num_good: float


def weights_of(*batches: Batch) -> Tensor | None:
    """The weights that losses give the videos of some batches (see `tb.losses`).

    Args:
        batches: One or more, which are one batch for the loss.

    Returns:
        (B of all batches,) float32, or None where every video is good.
    """
    if not any(isinstance(batch, PartlyBad) for batch in batches):
        return None
    num_videos = sum(len(batch.keys) for batch in batches)
    num_good = sum(
        batch.num_good if isinstance(batch, PartlyBad) else len(batch.keys) for batch in batches
    )
    return torch.cat([batch.valid for batch in batches]).float() * (num_videos / num_good)


def without_bad(batches: tuple[Batch, ...]) -> tuple[Batch, ...] | None:
    """The batches of one step, with good videos in the place of bad ones.

    All processes call this function after the same step. It writes into the batches.

    Returns:
        The same batches where no process has a bad video. None where a process has a batch without
        a good video.
    """
    num_good = torch.tensor([len(batch.keys) - len(batch.bad) for batch in batches])
    # The numbers stay on the CPU, so that no process has to wait for its GPU.
    means = mean(torch.stack([num_good, num_good == 0]).double())
    if means[1].any():
        return None
    return tuple(
        batch if number == len(batch.keys) else _filled(batch, number)
        for batch, number in zip(batches, means[0].tolist(), strict=True)
    )


def _filled(batch: Batch, num_good: float) -> PartlyBad:
    """The batch, with good videos copied over the bad ones."""
    good = [b for b in range(len(batch.keys)) if b not in batch.bad]
    for tensor in (*batch.views.values(), batch.labels):
        for place, b in enumerate(batch.bad):
            tensor[b] = tensor[good[place % len(good)]]
    return PartlyBad(**vars(batch), num_good=num_good)


class BadList:
    """WORK/STAGE/bad.jsonl: a line {"key", "reason"} for each video that was ever bad."""

    def __init__(self, folder: Path, loaders: Iterable[Loader]) -> None:
        """Goes on with the list in `folder`.

        Args:
            folder: The run's folder.
            loaders: The loaders whose bad videos are listed.
        """
        self._path = folder / BAD_LIST
        self._loaders = tuple(loaders)
        self._listed = set(read_bad_list(folder))

    def __len__(self) -> int:
        """The bad videos that this process has met, and those that were listed when it began."""
        return len(self._listed)

    def update(self) -> None:
        """Writes and logs the videos that have become bad since the last call."""
        for loader in self._loaders:
            if loader.bad.keys() <= self._listed:
                continue
            for key, reason in loader.bad.items():
                if key not in self._listed:
                    self._listed.add(key)
                    logger.warning("left out of training: %s", reason)
                    append_line(self._path, {"key": key, "reason": reason})


def read_bad_list(folder: Path) -> dict[str, str]:
    """Key -> reason of the videos that were bad in a run; {} where none was.

    Args:
        folder: The run's folder.
    """
    return {line["key"]: line["reason"] for line in read_lines(folder / BAD_LIST)}
