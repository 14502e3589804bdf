"""Videos listed in a CSV table."""

import csv
import os
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from shards.errors import InputError
from shards.files.path_kinds import is_file
from shards.files.text_file import read_text
from shards.format.splits import SplitName
from shards.sources.class_sizes import check_class_sizes
from shards.sources.segment import Segment, segment_of
from shards.sources.source import Dataset, VideoOnDisk, build


def from_csv(path: Path | str, *, min_per_class: int = 2) -> Dataset:
    """The videos listed in a CSV file.

    The columns are path, label and optionally split, group, start_s, end_s. Labels are class names.
    A split is train, val, test or empty (unused); without that column it is "train".

    Paths are relative to the folder of the CSV file. An absolute path, or one with "..", may lead
    to any folder, so look at a table from a stranger before you use it. Listed videos that do not
    exist are `missing`, but count for `min_per_class`.

    A row with a time is a segment of its file, see `Segment`. An empty start_s means the beginning
    of the file, and an empty end_s means its end. Several rows may share a file. If a segment has
    no group, its group is the file, because the segments of a file belong together.

    Args:
        path: The CSV file.
        min_per_class: A class with fewer listed videos is an error.

    Raises:
        InputError: The file is missing or not such a table (the message has the line number), or
            none of its videos exists.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"{path}: no such file; give a table with the columns path,label")
    listed: list[VideoOnDisk] = []
    found: list[VideoOnDisk] = []
    missing: list[str] = []
    line_of: dict[tuple[str, Segment | None], int] = {}
    for line, row in csv_rows(path, ("path", "label")):
        video = _video(path, line, row)
        exists = os.path.isfile(video.path)  # Path.is_file raises where a name is too long
        place = os.path.realpath(video.path) if exists else row["path"]
        name = row["path"] if video.segment is None else f"{row['path']}#{video.segment}"
        first_line = line_of.setdefault((place, video.segment), line)
        if first_line != line:
            raise InputError(f"{path}, line {line}: {name} is already on line {first_line}")
        listed.append(video)
        if exists:
            found.append(video)
        else:
            missing.append(name)
    if not listed:
        raise InputError(f"{path}: has no rows; add one line path,label per video")
    if not found:
        raise InputError(
            f"{path}: none of the listed videos ({len(listed)}) is there, e.g. line"
            f" {min(line_of.values())}: {missing[0]}: no such file below {path.parent}"
        )
    of_videos = [video.class_name for video in listed]
    check_class_sizes(path, set(of_videos), of_videos, min_per_class)
    return build(path.stem, path.parent, found, classes=of_videos, missing=missing)


def _video(table: Path, line: int, row: dict[str, str]) -> VideoOnDisk:
    """The video of a row.

    Raises:
        InputError: Its split or its times cannot be used.
    """
    split = row.get("split", "train")
    if split not in set(SplitName):
        raise InputError(
            f"{table}, line {line}: split {split!r}: write train, val, test or nothing"
        )
    try:
        segment = segment_of(row.get("start_s", ""), row.get("end_s", ""), f"line {line}")
    except InputError as error:
        raise InputError(f"{table}, {error}") from error
    return VideoOnDisk(
        path=table.parent / row["path"],
        class_name=row["label"],
        splits=(split,),
        group=row.get("group", ""),
        segment=segment,
    )


def csv_rows(path: Path, needed_columns: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Yields (line number, column -> stripped value) for each row.

    Args:
        path: The CSV file.
        needed_columns: The columns that must be there and have a value in each row.

    Raises:
        InputError: The file cannot be read, or lacks such a column or value.
    """
    kind = f"such a table is a CSV file in UTF-8 with the columns {','.join(needed_columns)}"
    reader = csv.DictReader(StringIO(read_text(path, kind), newline=""))
    try:
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
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error}); {kind}") from error
