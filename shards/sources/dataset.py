"""Videos on disk -> sources: which videos, with which label, in which splits.

Class folders and tables here; `public_sets` and `kinetics` build on them. A source is a path and
facts about it; no file is opened here except the CSV. Class names are alphabetical without regard
to case and a label is an index into them: this is UCF101's official order ("JumpingJack" before
"JumpRope"), which plain sorting would not give.
"""

import csv as csv_format
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards.errors import InputError
from shards.labels.fraction import seeded_ranks
from shards.sources.class_folders import (
    class_folders,
    find_videos,
    relative_name,
    split_folders,
    valid_unicode,
)
from shards.sources.keys import assign_keys

SPLIT_NAMES = ("train", "val", "test", "")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One video to ingest.

    Entry k of `splits` is the membership in split number k + 1: "train", "val", "test" or ""
    (unused). `group` names what must not be torn apart by a split ("" if unknown). `fault` is why
    the file is not even to be opened ("" as a rule).
    """

    path: Path
    key: str
    label: int
    splits: tuple[str, ...]
    group: str
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All sources of one data set, sorted by their path relative to `root`.

    Attributes:
        name: of the data set.
        classes: class names, index = label.
        sources: the videos on disk.
        root: what the sources' recorded paths are relative to.
        missing: videos that the data set's lists name and the disk does not have.
        notes: what the user should know beside that, one line each.
    """

    name: str
    classes: tuple[str, ...]
    sources: tuple[Source, ...]
    root: Path
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """A video before it has a key and a label."""

    path: Path
    class_name: str
    splits: tuple[str, ...]
    group: str = ""
    fault: str = ""


def folder(
    root: Path | str,
    *,
    test_percent: float = 0.0,
    seed: int = 0,
    min_per_class: int = 2,
    follow_links: bool = False,
) -> Dataset:
    """Class folders (CLASS/**/video), optionally below train/, val/, test/ folders.

    Args:
        root: the folder that holds the class folders or the split folders.
        test_percent: without split folders, this share of each class (at least one video, and at
            least one is left) becomes "test"; 0 leaves every video in "train".
        seed: which videos become "test".
        min_per_class: classes with fewer videos are refused.
        follow_links: take videos outside the root, reached by links, too.

    Raises:
        InputError: the folder is missing, empty or not laid out like this, a class is too small,
            or test_percent is given where split folders already decide.
    """
    root = existing_folder(root)
    if not 0 <= test_percent < 100:
        raise InputError(f"--test-percent {test_percent}: give a percentage from 0 to below 100")
    by_split = split_folders(root)
    if by_split and test_percent:
        raise InputError(
            f"{root}: holds split folders ({', '.join(sorted(by_split))}), so --test-percent has"
            " nothing to decide: leave it out"
        )
    fault = link_fault(root, follow_links)
    found = [
        Found(
            path=path,
            class_name=valid_unicode(class_folder.name),
            splits=(split,),
            fault=fault(path),
        )
        for split, top in (by_split or {"train": root}).items()
        for class_folder in class_folders(top)
        for path in find_videos(class_folder)
    ]
    tops = by_split.values() or [root]
    names = {valid_unicode(path.name) for top in tops for path in class_folders(top)}
    check_class_sizes(root, names, found, min_per_class)
    dataset = build(valid_unicode(root.resolve().name), root, found)
    return _draw_test(dataset, test_percent, seed) if test_percent else dataset


def csv(path: Path | str, *, min_per_class: int = 2) -> Dataset:
    """The videos listed in a CSV file with columns path, label and optional split, group.

    Paths are relative to the folder of the CSV file; labels are class names; split is train, val,
    test or empty (unused), and "train" everywhere if there is no such column. Listed videos that do
    not exist are `missing`, but count for `min_per_class`.

    Raises:
        InputError: the file is missing or not such a table (the message has the line number), or
            none of its videos exists.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; --csv takes a table with columns path,label")
    listed: list[Found] = []
    found: list[Found] = []
    missing: list[str] = []
    line_of: dict[str, int] = {}
    for line, row in csv_rows(path, ("path", "label")):
        video = path.parent / row["path"]
        where = f"{path}, line {line}"
        exists = os.path.isfile(video)  # Path.is_file raises where a name is too long
        place = os.path.realpath(video) if exists else row["path"]
        if place in line_of:
            raise InputError(f"{where}: {row['path']} is already on line {line_of[place]}")
        line_of[place] = line
        split = row.get("split", "train")
        if split not in SPLIT_NAMES:
            raise InputError(f"{where}: split {split!r}: write train, val, test or nothing")
        listed.append(
            Found(
                path=video,
                class_name=row["label"],
                splits=(split,),
                group=row.get("group", ""),
            )
        )
        if exists:
            found.append(listed[-1])
        else:
            missing.append(row["path"])
    if not listed:
        raise InputError(f"{path}: has no rows; add one line path,label per video")
    if not found:
        raise InputError(
            f"{path}: none of the {len(listed)} videos listed is there, e.g. line"
            f" {line_of[missing[0]]}: {missing[0]}: no such file below {path.parent}"
        )
    classes = {video.class_name for video in listed}
    check_class_sizes(path, classes, listed, min_per_class)
    return build(valid_unicode(path.stem), path.parent, found, classes=classes, missing=missing)


def existing_folder(root: Path | str) -> Path:
    """The root, checked.

    Raises:
        InputError: it is no folder.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"{root}: no such folder; check --root")
    if not root.is_dir():
        raise InputError(f"{root}: is a file; --root takes the folder that holds the class folders")
    return root


def link_fault(root: Path, follow_links: bool) -> Callable[[Path], str]:
    """A function path -> why it must not be opened: it leads out of the root; "" if it does not."""
    real_root = os.path.realpath(root) + os.sep

    def fault(path: Path) -> str:
        if follow_links or os.path.realpath(path).startswith(real_root):
            return ""
        return "a link out of the root; allow it with --follow-links"

    return fault


def csv_rows(path: Path, needed_columns: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Yields (line number, row with stripped values).

    Raises:
        InputError: the file cannot be read, or lacks a column or a value in `needed_columns`.
    """
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv_format.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or []]
            for needed in needed_columns:
                if needed not in columns:
                    raise InputError(
                        f"{path}, line 1: no column {needed!r} (found: {', '.join(columns)});"
                        f" the first line must name the columns {','.join(needed_columns)}"
                    )
            reader.fieldnames = columns
            for row in reader:
                values = {k: (v or "").strip() for k, v in row.items() if isinstance(k, str)}
                for needed in needed_columns:
                    if not values[needed]:
                        raise InputError(f"{path}, line {reader.line_num}: {needed} is empty")
                yield reader.line_num, values
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise InputError(f"{path}: not a UTF-8 CSV file ({error}); save it as one") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; make it readable") from error


def check_class_sizes(
    origin: Path, names: Iterable[str], found: Sequence[Found], min_per_class: int
) -> None:
    """Raises InputError where a class of `names` has fewer videos than that, or none."""
    sizes = Counter(video.class_name for video in found)
    for name in sorted(names):
        if sizes[name] < max(min_per_class, 1):
            ways = "add videos or remove the class"
            if sizes[name]:
                ways += ", or accept it with --min-per-class 1"
            raise InputError(
                f"{origin}: class {name!r} has {sizes[name]} video(s), needs"
                f" {max(min_per_class, 1)}: {ways}"
            )


def build(
    name: str,
    root: Path,
    found: Sequence[Found],
    *,
    classes: Iterable[str] = (),
    missing: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> Dataset:
    """Gives keys and labels.

    `classes` are class names that count even where none of their videos was found; see `Dataset`
    for the rest.
    """
    names = {video.class_name for video in found}.union(classes)
    classes = sorted(names, key=lambda c: (c.casefold(), c))
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    ordered = sorted(
        ((relative_name(video.path, root), video) for video in found), key=lambda pair: pair[0]
    )
    # The raw names: they differ even where their readable forms agree.
    keys = assign_keys(
        [(v.class_name, v.path.stem, os.path.relpath(v.path, root)) for _, v in ordered]
    )
    sources = tuple(
        Source(
            path=video.path,
            key=key,
            label=label_of[video.class_name],
            splits=video.splits,
            group=video.group,
            fault=video.fault,
        )
        for key, (_, video) in zip(keys, ordered, strict=True)
    )
    return Dataset(
        name=name,
        classes=tuple(classes),
        sources=sources,
        root=root,
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _draw_test(dataset: Dataset, test_percent: float, seed: int) -> Dataset:
    """Moves the same share of every class to "test"."""
    labels = np.array([source.label for source in dataset.sources])
    ranks = seeded_ranks([source.key for source in dataset.sources], labels, seed)
    sizes = np.bincount(labels)
    if sizes.min() < 2:
        name = dataset.classes[int(sizes.argmin())]
        raise InputError(
            f"{dataset.root}: class {name!r} has one video, which cannot be both train and test:"
            " add one, or leave out --test-percent"
        )
    num_test = np.clip(np.floor(sizes * test_percent / 100 + 0.5), 1, sizes - 1)
    sources = tuple(
        replace(source, splits=("test" if rank < num_test[source.label] else "train",))
        for source, rank in zip(dataset.sources, ranks, strict=True)
    )
    return replace(dataset, sources=sources)
