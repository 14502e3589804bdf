"""Which videos lie in a tree of class folders. It looks only at names: no file is opened.

A link may lead out of the root, where other people may decide what lies there. Such a folder is not
even listed unless the user allows it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import NoReturn

from shards.counted import counted
from shards.errors import InputError
from shards.files.addresses import SCRATCH_NAME
from shards.files.video_names import has_video_name
from shards.format.dataset_json import DATASET_NAME
from shards.format.splits import SplitName
from shards.sources.split_words import split_of_word

LinkRule = Callable[[Path], str]
"""Path -> why it must not be opened; "" if it may be opened."""


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """A class folder, perhaps below a split folder.

    Attributes:
        path: The folder.
        split: The split of the split folder; None if there are no split folders.
        videos: {video: why it must not be opened, or ""}.
    """

    path: Path
    split: SplitName | None
    videos: dict[Path, str]


def existing_folder(root: Path | str) -> Path:
    """The root as a path.

    Raises:
        InputError: It is not a folder.
    """
    root = Path(root)
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # a null is a ValueError
        raise InputError(f"{root}: no such folder; check the root") from error
    except OSError as error:
        raise InputError(f"{root}: {error.strerror}; check the root") from error
    if not S_ISDIR(mode):
        raise InputError(f"{root}: is a file; the root is the folder that holds the class folders")
    return root


def link_rule(root: Path, follow_links: bool) -> LinkRule:
    """The rule for links out of the root; with `follow_links` all of them are allowed."""
    real_root = _with_separator(os.path.realpath(root))

    def problem(path: Path) -> str:
        if follow_links or _with_separator(os.path.realpath(path)).startswith(real_root):
            return ""
        return "a link out of the root; allow it with --follow-links"

    return problem


def class_folders(root: Path, rule: LinkRule) -> list[Path]:
    """The sub-folders of root, sorted, without hidden ones and folders of shards.

    Raises:
        InputError: There are none, or videos lie outside all class folders, or the root is a link
            that must not be followed.
    """
    entries = _visible(root, rule)
    if not entries:
        raise InputError(f"{root}: is empty; put one folder per class with its videos there")
    loose = [path for path in entries if not entries[path] and has_video_name(path.name)]
    folders = [path for path in entries if entries[path] and not _is_shards_folder(path)]
    if not folders:
        what = f"{counted(len(loose), 'video')} but" if loose else "files but"
        raise InputError(
            f"{root}: holds {what} no class folders; put the videos into one folder per class, or"
            " list them in a table for `tb shard csv`"
        )
    if loose:
        raise InputError(
            f"{loose[0]}: lies outside any class folder; move it into one or out of {root}"
        )
    return folders


def found_classes(root: Path | str, follow_links: bool) -> list[ClassFolder]:
    """The class folders of the root, or of each of its split folders, with their videos.

    Args:
        root: The folder with the class folders or the split folders.
        follow_links: Also take videos outside the root that links lead to.

    Raises:
        InputError: See `existing_folder`, `split_folders`, `class_folders` and `find_videos`.
    """
    root = existing_folder(root)
    rule = link_rule(root, follow_links)
    tops: list[tuple[SplitName | None, Path]] = [*split_folders(root, rule).items()]
    return [
        ClassFolder(
            path=folder,
            split=split,
            videos={path: rule(path) for path in find_videos(folder, rule)},
        )
        for split, top in tops or [(None, root)]
        for folder in class_folders(top, rule)
    ]


def split_folders(root: Path, rule: LinkRule) -> dict[SplitName, Path]:
    """{SplitName.TRAIN: path, ...} if every sub-folder of root has the name of a split, else {}.

    Raises:
        InputError: Two folders mean the same split, or one is a link that must not be followed.
    """
    entries = _visible(root, rule)
    folders = [path for path in entries if entries[path] and not _is_shards_folder(path)]
    # All of them must have such a name: a data set of vehicles may have the class "train".
    if not folders or any(split_of_word(path.name) is None for path in folders):
        return {}
    if not any(any(_visible(path, rule).values()) for path in folders):
        return {}
    by_split: dict[SplitName, Path] = {}
    for path in sorted(folders):
        split = split_of_word(path.name)
        assert split is not None
        if split in by_split:
            raise InputError(f"{path}: {by_split[split].name} means the same split; merge the two")
        by_split[split] = path
    return by_split


def find_videos(folder: Path, rule: LinkRule) -> list[Path]:
    """All videos below a folder, at any depth, sorted, without hidden files and folders.

    A video may itself be a link out of the root. It is in the result, and the caller leaves it out.

    Raises:
        InputError: A folder cannot be read, or is a link that must not be followed.
    """
    _check_inside(folder, rule)
    found: list[Path] = []
    seen: set[str] = set()
    # Links are followed because large sets often lie on another disk; `seen` ends circles.
    for parent, folders, files in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and real not in seen)
        if real in seen:
            continue
        seen.add(real)
        for name in folders:  # they are listed next
            _check_inside(Path(parent, name), rule)
        found += [Path(parent, name) for name in files if has_video_name(name)]
    return sorted(found)


def _raise_unreadable(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: {error.strerror}; make it readable, or move it away")


def _check_inside(folder: Path, rule: LinkRule) -> None:
    if reason := rule(folder):
        raise InputError(f"{folder}: {reason}, or remove it")


def _with_separator(folder: str) -> str:
    return os.path.join(folder, "")


def _visible(folder: Path, rule: LinkRule) -> dict[Path, bool]:
    """{path: whether it is a folder}, sorted, without hidden names."""
    _check_inside(folder, rule)
    try:
        # In newer Pythons, `Path.is_dir` says False for a folder that may not be reached.
        with os.scandir(folder) as entries:
            found = {Path(entry): entry.is_dir() for entry in entries if entry.name[0] != "."}
        return dict(sorted(found.items()))
    except OSError as error:
        _raise_unreadable(error)


def _is_shards_folder(path: Path) -> bool:
    # Unlike pathlib, os.path does not raise where the folder may not be entered.
    return os.path.isfile(path / DATASET_NAME) or os.path.isdir(path / SCRATCH_NAME)
