"""Names of files: which are videos, and how a name is written into JSON and Parquet."""

import os
from pathlib import Path

# fmt: off
VIDEO_EXTENSIONS = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on


def has_video_name(name: str) -> bool:
    """Whether a file of that name counts as a video; hidden files do not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def relative_name(path: Path, root: Path) -> str:
    """The path relative to root, with forward slashes, as valid Unicode."""
    return valid_unicode(Path(os.path.relpath(path, root)).as_posix())


def valid_unicode(name: str) -> str:
    r"""A file name as text that JSON and Parquet can hold: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
