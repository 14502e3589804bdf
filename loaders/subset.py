"""Which videos of a manifest a loader serves."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shards.errors import InputError
from shards.manifest import Manifest
from shards.splits import label_fraction


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A split, or the labelled or unlabelled part of it.

    Attributes:
        split: "train", "val" or "test".
        split_number: 1-based number of the official split.
        part: "all", or the "labelled" / "unlabelled" side of the label fraction.
        percent: Share of labels kept, in (0, 100], stratified by class.
        label_seed: Seed of the choice; fractions of one seed are nested.
    """

    split: str = "train"
    split_number: int = 1
    part: Literal["all", "labelled", "unlabelled"] = "all"
    percent: float = 100.0
    label_seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in ("all", "labelled", "unlabelled"):
            raise InputError(f"part is {self.part!r}: choose all, labelled or unlabelled")

    def rows(self, manifest: Manifest) -> np.ndarray:
        """(N,) int64 manifest rows; raises InputError where none is left."""
        rows = manifest.indices(self.split, self.split_number)
        if len(rows) and self.part != "all":
            labelled = label_fraction(
                [manifest.keys[i] for i in rows],
                manifest.labels[rows],
                self.percent,
                self.label_seed,
            )
            rows = rows[labelled if self.part == "labelled" else ~labelled]
        if not len(rows):
            part = "" if self.part == "all" else f"{self.part} "
            raise InputError(
                f"{manifest.root}: no {part}videos in split {self.split!r} "
                f"(split number {self.split_number}, {self.percent:g} % of labels); "
                "see `tb shards info`"
            )
        return rows
