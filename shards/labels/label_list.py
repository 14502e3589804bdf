"""Lists of labelled videos: written for people, and read in all formats in public use.

A line is `NAME num_frames label`, `NAME label` or `NAME`. NAME is a key, or a path with or without
extension and leading folders. `#` and a blank begin a comment. `#` without the blank begins a name,
because HMDB51 has such names (#122_Cleaning_Up_...). A list only says which videos are labelled.
The labels themselves come from the manifest.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from shards.counted import counted
from shards.errors import InputError, printable
from shards.files.text_file import read_text
from shards.files.video_names import VIDEO_EXTENSIONS
from shards.format.manifest import Manifest
from shards.format.set_names import has_controls

_NUM_EXAMPLES = 3
_MAX_DIGITS = 18  # Python refuses to read numbers of thousands of digits.


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a list says about the videos of a manifest.

    Attributes:
        labelled: (N,) bool, True = in the list.
        unmatched: Entries that match no video of the manifest.
        contradicted: Entries whose label differs from that of the manifest. The labels of a list
            count from 0 or from 1, whichever gives fewer contradictions.
    """

    labelled: np.ndarray
    unmatched: tuple[str, ...]
    contradicted: tuple[str, ...]


def read_label_list(path: Path | str, manifest: Manifest) -> np.ndarray:
    """Which videos are labelled: (N,) bool.

    Raises:
        InputError: The file cannot be read, is empty, or names a video that the manifest lacks.
    """
    match = match_label_list(path, manifest)
    if match.unmatched:
        raise InputError(
            f"{path}: {counted(len(match.unmatched), 'entry')} not in {manifest.where}"
            f" ({examples(match.unmatched)}); make a list that fits with `tb split"
            f" {manifest.where} --from-list {path}`"
        )
    return match.labelled


def match_label_list(path: Path | str, manifest: Manifest) -> Match:
    """Finds the videos that a list names.

    Raises:
        InputError: The file cannot be read, is empty, or names no video of the manifest at all.
    """
    entries = _entries(Path(path))
    row_of = _rows_by_name(manifest)
    labelled = np.zeros(len(manifest), dtype=bool)
    unmatched: list[str] = []
    labels: dict[int, list[tuple[str, int]]] = {0: [], 1: []}
    for entry in entries:
        row, label = _find(entry, row_of)
        if row is None:
            unmatched.append(entry)
            continue
        labelled[row] = True
        if label is not None:
            for base, wrong in labels.items():
                if label - base != manifest.labels[row]:
                    wrong.append((entry, row))
    if not labelled.any():
        raise InputError(
            f"{path}: none of its {counted(len(entries), 'entry')} is in {manifest.where}"
            f" ({examples(unmatched)} against {manifest.video(0).source}); is it for another set?"
        )
    contradicted = min(labels.values(), key=len)
    return Match(
        labelled=labelled,
        unmatched=tuple(unmatched),
        contradicted=tuple(entry for entry, _ in contradicted),
    )


def label_list_text(manifest: Manifest, labelled: np.ndarray, title: str) -> str:
    """The text of a list: one line `NAME num_frames label` per video, sorted by label and name.

    NAME is the path without its extension. It is the key if that path would be read as another
    video, or has control characters.

    Args:
        manifest: The videos.
        labelled: (N,) bool.
        title: One line that says what the list is.
    """
    row_of = _rows_by_name(manifest)
    lines = []
    for row in np.flatnonzero(labelled).tolist():
        video = manifest.video(row)
        name = _without_extension(video.source)
        ways = [f"{way} {video.num_frames} {video.label}" for way in (name, video.key)]
        good = (way for way in ways if not has_controls(way) and _reads_as(way, row, row_of))
        # A line that has only the key is always read as this video.
        line = next(good, video.key)
        lines.append((video.label, name, line))
    header = [f"# {title}", "# name num_frames label"]
    return "\n".join([*header, *(line for *_, line in sorted(lines))]) + "\n"


def shared_groups(manifest: Manifest, parts: dict[str, np.ndarray]) -> list[tuple[str, str, int]]:
    """(part, other part, number of groups that both have) for each pair of parts.

    Args:
        manifest: The videos; those without a group are not counted.
        parts: Name of each part -> (M,) its rows.
    """
    held = {name: {manifest.groups[row] for row in rows} - {""} for name, rows in parts.items()}
    names = list(held)
    return [
        (one, other, len(held[one] & held[other]))
        for index, one in enumerate(names)
        for other in names[index + 1 :]
    ]


def examples(entries: Sequence[str]) -> str:
    """The first few entries, for a message."""
    more = ", ..." if len(entries) > _NUM_EXAMPLES else ""
    return printable(f"e.g. {', '.join(entries[:_NUM_EXAMPLES])}{more}")


def _entries(path: Path) -> list[str]:
    advice = "a list has one line NAME [[frames] label] per video"
    entries = _entries_of(read_text(path, advice))
    if not entries:
        raise InputError(f"{path}: is empty; {advice}")
    return entries


def _entries_of(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not re.match(r"#+(\s|$)", line)]


def _reads_as(line: str, row: int, row_of: dict[str, int]) -> bool:
    return _entries_of(line) == [line] and _find(line, row_of)[0] == row


def _rows_by_name(manifest: Manifest) -> dict[str, int]:
    """Row of each name that means exactly one video: key, path, class/stem or stem.

    All are without extensions.
    """
    names: list[tuple[str, int]] = []
    sources = manifest.table.column("source").to_pylist()
    for row, (source, label) in enumerate(zip(sources, manifest.labels.tolist(), strict=True)):
        path = _without_extension(source)
        stem = PurePosixPath(path).name
        folder = PurePosixPath(path).parent.name
        own = {path, stem, f"{folder}/{stem}", f"{manifest.classes[label]}/{stem}"}
        names += [(name, row) for name in own]
    num_uses = Counter(name for name, _ in names)
    row_of = {name: row for name, row in names if num_uses[name] == 1}
    return row_of | {key: row for row, key in enumerate(manifest.keys)}


def _find(entry: str, row_of: dict[str, int]) -> tuple[int | None, int | None]:
    """Row and label of an entry, or None; names may have spaces and digits."""
    parts = entry.split()
    # The whole line comes first: "take 2" may be a name, not "take" with the label 2.
    for num_numbers in (0, 1, 2):
        numbers = parts[len(parts) - num_numbers :]
        if num_numbers >= len(parts) or not all(map(_is_number, numbers)):
            break
        row = _lookup(entry.rsplit(maxsplit=num_numbers)[0], row_of)
        if row is not None:
            return row, int(numbers[-1]) if numbers else None
    return None, None


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) <= _MAX_DIGITS


def _lookup(name: str, row_of: dict[str, int]) -> int | None:
    path = PurePosixPath(_without_extension(name.replace("\\", "/")))
    for candidate in (path.as_posix(), "/".join(path.parts[-2:]), path.name):
        if candidate in row_of:
            return row_of[candidate]
    return None


def _without_extension(name: str) -> str:
    stem, extension = posixpath.splitext(name)
    # Any other "extension" is a part of the name. Names may have dots, and lists of folders of
    # frames have no extensions.
    return stem if extension.lower() in VIDEO_EXTENSIONS else name
