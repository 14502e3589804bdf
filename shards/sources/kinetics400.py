"""Kinetics-400 as downloaded, by its official lists.

The lists decide, not the folders: they have the labels and splits, and a video is found by its
YouTube ID and start. So any layout of folders works, and missing videos are known by name.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from shards.errors import InputError
from shards.format.video import SplitName
from shards.sources.class_folders import find_videos
from shards.sources.recognise import KINETICS_NAME, recognise
from shards.sources.source import Dataset, VideoOnDisk, build, existing_folder, link_fault
from shards.sources.table import csv_rows


def from_kinetics400(
    root: Path | str, annotations: Sequence[Path | str], *, follow_links: bool = False
) -> Dataset:
    """Kinetics-400 as downloaded, by its official lists.

    Videos lie anywhere below the root as ID_START_END.EXT, ID_START.EXT or ID.EXT. The usual layout
    is class/ID_START_END.mp4, below train/ and val/. Labels come from the lists. Many videos can no
    longer be downloaded: those are `missing`. `group` is the YouTube ID.

    Args:
        root: The folder with the videos.
        annotations: CSV files with the columns label, youtube_id, time_start and optionally split.
            Without that column, the name of the file must say train, val or test.
        follow_links: Also take videos outside the root that links lead to.

    Raises:
        InputError: A list cannot be read or names a video twice, or none of its videos is there.
    """
    root = existing_folder(root)
    on_disk = {path.stem: path for path in find_videos(root)}
    starts = {
        (m["id"], int(m["start"])): p
        for p in on_disk.values()
        if (m := KINETICS_NAME.fullmatch(p.stem))
    }
    fault = link_fault(root, follow_links)
    found: list[VideoOnDisk] = []
    missing: list[str] = []
    classes: set[str] = set()
    line_of: dict[Path | str, str] = {}
    for where, row, split in _rows(annotations):
        start = _seconds(row["time_start"], where)
        video_id = row["youtube_id"]
        path = starts.get((video_id, start)) or on_disk.get(f"{video_id}_{start}")
        path = path or on_disk.get(video_id)
        name = f"{row['label']}/{video_id}_{start:06d}"
        if (seen := line_of.setdefault(path or f"{video_id}_{start}", where)) != where:
            raise InputError(f"{where}: {name}: already in {seen}; remove one of the two")
        classes.add(row["label"])
        if path is None:
            missing.append(name)
            continue
        found.append(
            VideoOnDisk(
                path=path,
                class_name=row["label"],
                splits=(split,),
                group=video_id,
                fault=fault(path),
            )
        )
    if not found:
        hint = "are these the lists for it?" if starts else recognise(root)
        raise InputError(
            f"{root}: holds none of the {len(missing)} videos listed, e.g. {missing[0]}: {hint}"
        )
    num_unlisted = len(on_disk) - len(found)
    notes = [f"{num_unlisted} videos on disk are in none of the lists"] if num_unlisted else []
    return build("kinetics400", root, found, classes=classes, missing=missing, notes=notes)


def _rows(annotations: Sequence[Path | str]) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yields (file and line, row, split) of all lists."""
    for path in map(Path, annotations):
        if not path.is_file():
            raise InputError(f"{path}: no such file; the annotations are Kinetics' CSV lists")
        words = re.split(r"[^a-z]+", path.stem.lower())
        by_name = next(filter(None, map(SplitName.of_word, words)), None)
        num_rows = 0
        for line, row in csv_rows(path, ("label", "youtube_id", "time_start")):
            split = SplitName.of_word(row["split"]) if row.get("split") else by_name
            if split is None:
                raise InputError(
                    f"{path}, line {line}: no split; add a column split with train, val or test"
                )
            num_rows += 1
            yield f"{path}, line {line}", row, split
        if not num_rows:
            raise InputError(f"{path}: has no rows")


def _seconds(text: str, where: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: time_start {text!r}: must be a number of seconds") from error
