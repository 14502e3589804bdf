"""What UCF101 and HMDB51 have in common: class folders, official lists, three splits.

All official splits go into the manifest, and training chooses one by its number. A video that the
lists name and the disk does not have is listed, and is not an error. A file in no list is an error.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from shards.errors import InputError
from shards.files.text_file import read_text
from shards.format.splits import SplitName
from shards.sources.class_folders import LinkRule, class_folders, find_videos
from shards.sources.recognise import recognise
from shards.sources.source import VideoOnDisk

NUM_SPLITS = 3


def videos_by_class(
    root: Path, name: str, pattern: re.Pattern[str], rule: LinkRule
) -> dict[str, list[Path]]:
    """{name of a class folder: its videos}.

    Args:
        root: The folder with the class folders.
        name: The name of the data set, for messages.
        pattern: It matches the stems of the videos of this data set.
        rule: The rule for links out of the root.

    Raises:
        InputError: No name fits, or the class folders are not directly in the root (the message
            says which data set the folder looks like), or a class has two files of one video.
    """
    try:
        tops = class_folders(root, rule)
    except InputError as error:
        raise InputError(
            f"{error} (or, if this is to be {name}: {recognise(root, rule)})"
        ) from error
    videos = {top.name: find_videos(top, rule) for top in tops}
    fitting = [path for paths in videos.values() for path in paths if pattern.fullmatch(path.stem)]
    if not fitting or fitting[0].parent.parent != root:
        raise InputError(f"{root}: not {name}: {recognise(root, rule)}")
    for paths in videos.values():
        first_of: dict[str, Path] = {}
        for path in paths:
            if (first := first_of.setdefault(path.stem, path)) != path:
                raise InputError(f"{first} and {path}: two files of one video; keep one of them")
    return videos


def list_lines(path: Path) -> list[str]:
    """The lines of an official list that are not empty.

    Raises:
        InputError: The list cannot be read.
    """
    lines = read_text(path, "the annotations are the unpacked lists").splitlines()
    return [line.strip() for line in lines if line.strip()]


def missing_videos(
    found: Iterable[VideoOnDisk], listed: dict[str, tuple[SplitName, ...]]
) -> list[str]:
    """The names that the lists have and the disk does not, sorted."""
    return sorted(listed.keys() - {list_name(video) for video in found})


def list_name(video: VideoOnDisk) -> str:
    """The name of a video in `listed`: class/stem."""
    return f"{video.class_name}/{video.path.stem}"


def part_notes(name: str, found: Sequence[VideoOnDisk], counts: tuple[int, int]) -> list[str]:
    """A note if this is only a part of the data set.

    Args:
        name: The name of the data set.
        found: The videos on disk.
        counts: How many classes and videos the whole data set has.
    """
    num_classes = len({video.class_name for video in found})
    if (num_classes, len(found)) == counts:
        return []
    return [
        f"not all of {name}: {num_classes} of {counts[0]} classes, {len(found)} of {counts[1]}"
        " videos"
    ]
