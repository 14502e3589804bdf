"""Chooses the videos of a split that keep their label, by a seeded draw or from a public list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.counted import counted
from shards.errors import InputError, printable
from shards.files.addresses import check_local
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from shards.format.splits import SplitName
from shards.labels.fraction import label_fraction
from shards.labels.label_list import examples, label_list_text, match_label_list, shared_groups


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelChoice:
    """The videos of a split that keep their label.

    Attributes:
        manifest: The videos.
        split: "train" or another name, see `shards.format.splits.SplitQuery`.
        split_number: Which split, counted from 1.
        rows: (M,) int64, the rows of the split.
        labelled: (N,) bool, True = keeps its label.
        name: The name of its list file, without the extension.
        source: How the videos were chosen, in a few words.
        unmatched: Entries of the public list that match no video.
        contradicted: Entries of the public list that have another label than the shards.
    """

    manifest: Manifest
    split: str
    split_number: int
    rows: np.ndarray
    labelled: np.ndarray
    name: str
    source: str
    unmatched: Sequence[str] = ()
    contradicted: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What this choice is, in one line."""
        where = _split_text(self.manifest, self.split, self.split_number)
        num_labelled, num_videos = self.labelled.sum(), len(self.rows)
        return printable(
            f"{num_labelled} labelled of {counted(num_videos, 'video')} in {where} ({self.source})"
        )

    def num_per_class(self) -> dict[str, int]:
        """{class name: number of labelled videos} for each class that has a video in the split."""
        num_classes = len(self.manifest.classes)
        sizes = np.bincount(self.manifest.labels[self.rows], minlength=num_classes)
        counts = np.bincount(self.manifest.labels[self.labelled], minlength=num_classes)
        return {self.manifest.classes[label]: int(counts[label]) for label in np.flatnonzero(sizes)}

    def shared_groups(self) -> list[tuple[str, str, int]]:
        """(part, other part, number of groups that both have); empty if no groups are known.

        The parts are "labelled", "unlabelled", "val" and "test", without those that have no video.
        """
        if not any(self.manifest.groups):
            return []
        held_out = (SplitName.VAL, SplitName.TEST)
        parts = {
            "labelled": np.flatnonzero(self.labelled),
            "unlabelled": self.rows[~self.labelled[self.rows]],
            **{str(name): self.manifest.indices(name, self.split_number) for name in held_out},
        }
        return shared_groups(
            self.manifest, {name: part for name, part in parts.items() if len(part)}
        )

    def write(self, path: Path | None = None) -> Path:
        """Writes the list, which `read_label_list` reads.

        Args:
            path: The file; by default `name`.txt beside the shards.

        Returns:
            The file.

        Raises:
            InputError: The file holds another list or cannot be written, or there is no `path`
                although the shards are remote.
        """
        if path is None and self.manifest.url:
            raise InputError(
                f"{self.manifest.url}: a list is always a local file; choose one with --out"
            )
        path = path or self.manifest.root / f"{self.name}.txt"
        check_local(path, "out")
        data = label_list_text(self.manifest, self.labelled, self.title).encode()
        try:
            if path.exists() and path.read_bytes() != data:
                raise InputError(f"{path}: holds another list; choose another --out, or delete it")
            publish_bytes(path, data)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; choose another --out") from error
        return path


def draw_labels(
    manifest: Manifest,
    percent: float,
    *,
    seed: int = 0,
    split: str = SplitName.TRAIN,
    split_number: int = 1,
    whole_groups: bool = False,
) -> LabelChoice:
    """Draws the videos that keep their label; see `label_fraction` for what the draw promises.

    Args:
        manifest: The videos.
        percent: How many of the labels to keep, in (0, 100].
        seed: Another seed gives an independent draw; the draws of one seed are nested.
        split: "train", or "pool" for HMDB51.
        split_number: Which split, counted from 1.
        whole_groups: Keep the videos of a group together within a class.

    Raises:
        InputError: The split has no videos, `percent` is outside its range, `whole_groups` is set
            and no groups are known, or `seed` or `whole_groups` is given with all labels.
    """
    if percent == 100 and (seed or whole_groups):
        what = "whole_groups" if whole_groups else f"seed {seed}"
        raise InputError(f"{what} decides nothing with 100 percent of the labels: leave it out")
    rows = manifest.indices(split, split_number)
    if not len(rows):
        raise InputError(f"{manifest.where}: that split has no videos; see `tb data info`")
    groups = [manifest.groups[row] for row in rows] if whole_groups else None
    if groups is not None and not any(groups):
        raise InputError(f"{manifest.where}: no groups are known, so none can be kept whole")
    labelled = np.zeros(len(manifest), dtype=bool)
    keys = [manifest.keys[row] for row in rows]
    labelled[rows] = label_fraction(keys, manifest.labels[rows], percent, seed, groups)
    name = f"labelled-{percent:g}pct-{split}{split_number}-seed{seed}"
    return LabelChoice(
        manifest=manifest,
        split=split,
        split_number=split_number,
        rows=rows,
        labelled=labelled,
        name=name + "-groups" * whole_groups,
        source=f"{percent:g} %, seed {seed}" + ", whole groups" * whole_groups,
    )


def labels_from_list(
    manifest: Manifest,
    path: Path | str,
    *,
    split: str = SplitName.TRAIN,
    split_number: int = 1,
) -> LabelChoice:
    """Chooses the videos that a public list names.

    Args:
        manifest: The videos.
        path: The list; see `label_list` for its formats.
        split: "train", or "pool" for HMDB51.
        split_number: Which split, counted from 1.

    Raises:
        InputError: The list cannot be read, names no video of the manifest, or names one outside
            the split.
    """
    path = Path(path)
    rows = manifest.indices(split, split_number)
    match = match_label_list(path, manifest)
    outside = np.setdiff1d(np.flatnonzero(match.labelled), rows)
    if len(outside):
        where = _split_text(manifest, split, split_number)
        names = [manifest.keys[row] for row in outside]
        raise InputError(
            f"{path}: {counted(len(outside), 'entry')} outside the {where}"
            f" ({examples(names)}); choose another split number, or the split pool"
        )
    return LabelChoice(
        manifest=manifest,
        split=split,
        split_number=split_number,
        rows=rows,
        labelled=match.labelled,
        name=f"labelled-{path.stem}",
        source=f"from {path.name}",
        unmatched=match.unmatched,
        contradicted=match.contradicted,
    )


def _split_text(manifest: Manifest, split: str, number: int) -> str:
    return f"{split} split {number} of {manifest.name}"
