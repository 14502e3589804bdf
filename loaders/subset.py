"""Which videos of a manifest a loader serves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from shards.errors import InputError
from shards.label_list import read_label_list
from shards.manifest import Manifest
from shards.splits import label_fraction

Part = Literal["all", "labelled", "unlabelled"]


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A split, or the labelled or unlabelled part of it.

    Who is labelled says `label_list` where there is one, else `percent` and `label_seed`.

    Attributes:
        split: "train", "val" or "test".
        split_number: 1-based number of the official split.
        part: "all", or the "labelled" / "unlabelled" side of the label fraction.
        percent: Share of labels kept, in (0, 100], stratified by class.
        label_seed: Seed of the choice; fractions of one seed are nested.
        label_list: File that names the labelled videos (see `shards.label_list`).
    """

    split: str = "train"
    split_number: int = 1
    part: Part = "all"
    percent: float = 100.0
    label_seed: int = 0
    label_list: Path | str | None = None

    def __post_init__(self) -> None:
        if self.part not in ("all", "labelled", "unlabelled"):
            raise InputError(f"part is {self.part!r}: choose all, labelled or unlabelled")

    def rows(self, manifest: Manifest) -> np.ndarray:
        """(N,) int64 manifest rows; raises InputError where none is left."""
        rows = manifest.indices(self.split, self.split_number)
        if len(rows) and self.part != "all":
            labelled = self._labelled(manifest, rows)
            rows = rows[labelled if self.part == "labelled" else ~labelled]
        if not len(rows):
            part = "" if self.part == "all" else f"{self.part} "
            labels = f"{self.percent:g} % of labels"
            raise InputError(
                f"{manifest.root}: no {part}videos in split {self.split!r} "
                f"(split number {self.split_number}, {self.label_list or labels}); "
                "see `tb shards info`"
            )
        return rows

    def _labelled(self, manifest: Manifest, rows: np.ndarray) -> np.ndarray:
        """Which of the rows keep their label, bool."""
        if self.label_list is not None:
            return np.asarray(read_label_list(self.label_list, manifest)[rows])
        keys = [manifest.keys[row] for row in rows]
        return label_fraction(keys, manifest.labels[rows], self.percent, self.label_seed)
