"""`Source` and `Dataset`: which videos are on disk, of which class, in which splits.

Labels follow the alphabetical order of the class names, without regard to case. This is the
official order of UCF101 ("JumpingJack" before "JumpRope"), which plain sorting would not give.
No file is opened here.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from shards.files.names import readable_names
from shards.sources.keys import assign_keys
from shards.sources.segment import Segment
from shards.sources.split_draw import SplitDraw


@dataclass(frozen=True, kw_only=True)
class Source:
    """One video to ingest.

    Attributes:
        path: The file.
        name: The file relative to `Dataset.root`, and the times of a segment:
            "day/1.mp4#t=12.5,20".
        key: Its unique name in the shards.
        label: The index of its class.
        splits: Its membership in split number 1, 2, ...: a SplitName for each.
        num_bytes: The size of the file when it was found; -1 if the system did not say.
        group: Videos of one group belong together, as takes of one scene do; "" if unknown.
        refusal: Why the file must not even be opened; "" if it may be opened.
        segment: The part of the file that is the video; None for the whole file.
    """

    path: Path
    name: str
    key: str
    label: int
    splits: tuple[str, ...]
    num_bytes: int
    group: str
    refusal: str = ""
    segment: Segment | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All sources of one data set, sorted by their path relative to `root`.

    Attributes:
        name: The name of the data set.
        classes: Class names; the index is the label.
        sources: The videos on disk.
        root: The folder to which recorded paths are relative.
        missing: Videos that the lists of the data set name and the disk does not have.
        notes: What else the user should know, one line each.
        draw: How the splits were drawn; None if folders or lists give them.
    """

    name: str
    classes: tuple[str, ...]
    sources: tuple[Source, ...]
    root: Path
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    draw: SplitDraw | None = None


@dataclass(frozen=True, kw_only=True)
class VideoOnDisk:
    """A video on disk before it has a key and a label.

    Attributes:
        path: The file.
        class_name: The name of its class, as the disk or a list has it.
        splits: See `Source`.
        group: See `Source`. The group of a segment is its file, unless another one is given.
        refusal: See `Source`.
        segment: See `Source`.
    """

    path: Path
    class_name: str
    splits: tuple[str, ...]
    group: str = ""
    refusal: str = ""
    segment: Segment | None = None


def build(
    name: str,
    root: Path,
    found: Sequence[VideoOnDisk],
    *,
    classes: Iterable[str] = (),
    missing: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> Dataset:
    """The data set of these videos, with keys and labels.

    Args:
        name: The name of the data set, as the disk has it.
        root: The folder to which recorded paths are relative.
        found: The videos on disk.
        classes: Class names that count even if none of their videos was found.
        missing: See `Dataset`.
        notes: See `Dataset`.
    """
    raw_classes = {video.class_name for video in found}.union(classes)
    paths = [os.path.relpath(video.path, root) for video in found]
    readable = readable_names([name, *raw_classes, *paths])
    names = {readable[class_name] for class_name in raw_classes}
    classes = sorted(names, key=lambda c: (c.casefold(), c))
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    listed = zip(paths, found, strict=True)
    ordered = sorted(listed, key=lambda named: _place(readable[named[0]], named[1]))
    # Keys need the raw names, which differ even if their readable forms are equal.
    keys = assign_keys(
        [(readable[video.class_name], *_raw_names(video, path)) for path, video in ordered]
    )
    sources = tuple(
        Source(
            path=video.path,
            name=f"{readable[path]}#{video.segment}" if video.segment else readable[path],
            key=key,
            label=label_of[readable[video.class_name]],
            splits=video.splits,
            num_bytes=_num_bytes(video.path),
            group=video.group or (readable[path] if video.segment else ""),
            refusal=video.refusal,
            segment=video.segment,
        )
        for key, (path, video) in zip(keys, ordered, strict=True)
    )
    return Dataset(
        name=readable[name],
        classes=tuple(classes),
        sources=sources,
        root=root,
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _num_bytes(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _place(file: str, video: VideoOnDisk) -> tuple[str, bool, Fraction, bool, Fraction]:
    """The place in the order: by file, then by time; the whole file comes first."""
    segment = video.segment or Segment(start_s=Fraction(0))
    return (
        file,
        video.segment is not None,
        segment.start_s,
        segment.end_s is None,
        segment.end_s or Fraction(0),
    )


def _raw_names(video: VideoOnDisk, path: str) -> tuple[str, str]:
    """The stem and the path relative to the root, each with the times of a segment."""
    stem = video.path.stem
    if video.segment is None:
        return stem, path
    return f"{stem}-{video.segment.key_part}", f"{path}#{video.segment}"
