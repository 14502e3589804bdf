"""Which videos of a manifest a loader serves."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from shards.errors import InputError, one_of
from shards.format.manifest import Manifest
from shards.labels.fraction import label_fraction
from shards.labels.label_list import read_label_list


class Part(StrEnum):
    """A part of the videos of a split."""

    ALL = "all"
    LABELLED = "labelled"
    """The videos that keep their labels, without the held-out ones."""
    VALIDATION = "validation"
    """The labelled ones that are held out."""
    UNLABELLED = "unlabelled"


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A split, or the labelled or unlabelled part of it.

    `label_list` says which videos are labelled. Without a list, `percent` and `label_seed` do. A
    share of the labelled videos may be held out for validation. Each class gives whole groups
    (takes of one scene) and keeps at least one, so a class with a single group gives none. A group
    that spans classes may end up on both sides.

    Attributes:
        split: "train", "val" or "test".
        split_number: 1-based number of the official split.
        part: A `Part`, or its name: "all", "labelled", "validation" or "unlabelled".
        percent: Percentage of labels kept, in (0, 100], stratified by class.
        label_seed: Seed of the choice. With one seed, a larger fraction contains a smaller one.
            Beside a `label_list`, or with all labels, it decides only which videos are held out.
        label_list: File that names the labelled videos (see `shards.labels.label_list`).
        validation: Share of the labelled videos held out, in [0, 1), stratified by class.

    Raises:
        InputError: A value is out of range, or means nothing beside the others.
    """

    split: str = "train"
    split_number: int = 1
    part: Part | str = Part.ALL
    percent: float = 100.0
    label_seed: int = 0
    label_list: Path | str | None = None
    validation: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "part", one_of(Part, "part", self.part))
        if not 0 <= self.validation < 1:
            raise InputError(f"validation is {self.validation}: give a share from 0 to below 1")
        self._refuse_what_means_nothing()

    def _refuse_what_means_nothing(self) -> None:
        for name, is_given in (
            ("percent", self.percent != 100),
            ("label_seed", self.label_seed != 0),
            ("label_list", self.label_list is not None),
            ("validation", bool(self.validation)),
        ):
            if is_given and self.part == Part.ALL:
                raise InputError(
                    f"{name} is {getattr(self, name)}, which means nothing for part '{self.part}': "
                    "leave it out, or choose another part"
                )
        if self.label_list is not None and self.percent != 100:
            raise InputError(
                f"label_list and percent {self.percent:g} are both given: leave one of them out"
            )
        if self.validation and self.part == Part.UNLABELLED:
            raise InputError(
                f"validation is {self.validation}, which means nothing for part '{self.part}':"
                " it is a share of the labelled videos; leave it out, or choose another part"
            )
        if self.label_seed and self.percent == 100 and not self.validation:
            raise InputError(
                f"label_seed is {self.label_seed}, but no choice is drawn: leave it out, or give"
                " percent or validation"
            )

    def rows(self, manifest: Manifest) -> np.ndarray:
        """(N,) int64 manifest rows; raises InputError if none is left."""
        rows = manifest.indices(self.split, self.split_number)
        if len(rows) and self.part != Part.ALL:
            labelled = self._labelled(manifest, rows)
            if self.part == Part.UNLABELLED:
                rows = rows[~labelled]
            else:
                rows = rows[labelled]
                held_out = self._held_out(manifest, rows)
                rows = rows[held_out if self.part == Part.VALIDATION else ~held_out]
        if not len(rows):
            part = "" if self.part == Part.ALL else f"{self.part} "
            labels = f"{self.percent:g} % of labels"
            advice = "see `tb data info`"
            if self.part == Part.VALIDATION:
                labels += f", {self.validation:g} of them"
                advice = "give a larger share, or more labels"
            raise InputError(
                f"{manifest.where}: no {part}videos in split {self.split!r} "
                f"(split number {self.split_number}, {self.label_list or labels}); {advice}"
            )
        return rows

    def visible_labels(self, manifest: Manifest) -> np.ndarray:
        """(number of rows in the manifest,) int64; all -1 for the "unlabelled" part."""
        if self.part == Part.UNLABELLED:
            return np.full_like(manifest.labels, -1)
        return manifest.labels

    def _labelled(self, manifest: Manifest, rows: np.ndarray) -> np.ndarray:
        """bool for each row: whether it keeps its label."""
        if self.label_list is not None:
            return np.asarray(read_label_list(self.label_list, manifest)[rows])
        keys = [manifest.keys[row] for row in rows]
        return label_fraction(keys, manifest.labels[rows], self.percent, self.label_seed)

    def _held_out(self, manifest: Manifest, rows: np.ndarray) -> np.ndarray:
        """bool for each labelled row: whether it is for validation."""
        if not (self.validation and len(rows)):
            return np.zeros(len(rows), dtype=bool)
        keys = [manifest.keys[row] for row in rows]
        groups = [manifest.groups[row] for row in rows]
        percent = 100 * (1 - self.validation)
        labels = manifest.labels[rows]
        return ~label_fraction(keys, labels, percent, self.label_seed, groups)
