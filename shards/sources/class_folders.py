"""Where videos lie in a tree of class folders. Names only: no file is opened."""

import os
from pathlib import Path
from typing import NoReturn

from shards.errors import InputError

# fmt: off
VIDEO_EXTENSIONS = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on

_SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def class_folders(root: Path) -> list[Path]:
    """The sub-folders of root, sorted; hidden ones and finished or half-done shards left out.

    Raises:
        InputError: there are none, or videos lie outside any class folder.
    """
    entries = _visible(root)
    if not entries:
        raise InputError(f"{root}: is empty; put one folder per class with its videos there")
    loose = [path for path in entries if _is_video(path)]
    folders = [path for path in entries if path.is_dir() and not _is_shards_folder(path)]
    if not folders:
        what = f"{len(loose)} videos but" if loose else "files but"
        raise InputError(
            f"{root}: holds {what} no class folders; put the videos into one folder per class, or"
            " list them in a table for `tb shard csv`"
        )
    if loose:
        raise InputError(
            f"{loose[0]}: lies outside any class folder; move it into one or out of {root}"
        )
    return folders


def split_folders(root: Path) -> dict[str, Path]:
    """{"train": path, ...} where every sub-folder of root is named after a split, else {}."""
    folders = [path for path in _visible(root) if path.is_dir() and not _is_shards_folder(path)]
    # All of them: a data set of vehicles may well have a class "train" beside "bus".
    if not folders or any(path.name.lower() not in _SPLIT_FOLDERS for path in folders):
        return {}
    if all(not any(child.is_dir() for child in _visible(path)) for path in folders):
        return {}
    by_split: dict[str, Path] = {}
    for path in sorted(folders):
        split = _SPLIT_FOLDERS[path.name.lower()]
        if split in by_split:
            raise InputError(f"{path}: {by_split[split].name} means the same split; merge the two")
        by_split[split] = path
    return by_split


def find_videos(folder: Path) -> list[Path]:
    """All videos below folder, at any depth, sorted; hidden files and folders left out.

    Raises:
        InputError: a folder cannot be read.
    """
    found: list[Path] = []
    seen: set[str] = set()
    # Links are followed, since large sets often lie on another disk; `seen` ends their circles.
    for parent, folders, files in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and real not in seen)
        if real in seen:
            continue
        seen.add(real)
        found += [Path(parent, name) for name in files if _has_video_name(name)]
    return sorted(found)


def relative_name(path: Path, root: Path) -> str:
    """The path relative to root with forward slashes, valid Unicode whatever the bytes on disk."""
    return valid_unicode(Path(os.path.relpath(path, root)).as_posix())


def valid_unicode(name: str) -> str:
    r"""A file name as text that JSON and Parquet can hold: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _raise_unreadable(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: {error.strerror}; make it readable, or move it away")


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        _raise_unreadable(error)


def _has_video_name(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def _is_video(path: Path) -> bool:
    return _has_video_name(path.name) and not path.is_dir()


def _is_shards_folder(path: Path) -> bool:
    # os.path, not pathlib: a folder that may not be entered is none.
    return os.path.isfile(path / "dataset.json") or os.path.isdir(path / ".ingest")
