"""Videos listed in a CSV table."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from shards.errors import InputError
from shards.files.names import valid_unicode
from shards.format.video import SplitName
from shards.sources.source import Dataset, VideoOnDisk, build, check_class_sizes


def from_csv(path: Path | str, *, min_per_class: int = 2) -> Dataset:
    """The videos listed in a CSV file with the columns path, label and optionally split, group.

    Paths are relative to the folder of the CSV file. Labels are class names. A split is train, val,
    test or empty (unused); without that column it is "train". Listed videos that do not exist are
    `missing`, but count for `min_per_class`.

    Args:
        path: The CSV file.
        min_per_class: A class with fewer listed videos is an error.

    Raises:
        InputError: The file is missing or not such a table (the message has the line number), or
            none of its videos exists.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a table with the columns path,label")
    listed: list[VideoOnDisk] = []
    found: list[VideoOnDisk] = []
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
        if split not in set(SplitName):
            raise InputError(f"{where}: split {split!r}: write train, val, test or nothing")
        listed.append(
            VideoOnDisk(
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


def csv_rows(path: Path, needed_columns: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Yields (line number, column -> stripped value) for each row.

    Args:
        path: The CSV file.
        needed_columns: The columns that must be there and have a value in each row.

    Raises:
        InputError: The file cannot be read, or lacks such a column or value.
    """
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
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
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 CSV file ({error}); save it as one") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; make it readable") from error
