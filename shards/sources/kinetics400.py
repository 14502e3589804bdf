"""Kinetics-400 as downloaded, by its official lists.

The lists decide, not the folders: they have the labels and splits, and a video is found by its
YouTube ID and start. So any layout of folders works, and missing videos are known by name.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from shards.counted import counted
from shards.errors import InputError
from shards.files.path_kinds import is_file
from shards.sources.class_folders import existing_folder, find_videos, link_rule
from shards.sources.recognise import KINETICS_NAME, recognise
from shards.sources.source import Dataset, VideoOnDisk, build
from shards.sources.split_words import split_of_word
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
        InputError: A list cannot be read or names a video twice, none of the listed videos is
            there, or a listed video has several files.
    """
    root = existing_folder(root)
    rule = link_rule(root, follow_links)
    videos = find_videos(root, rule)
    by_name = _by_name(videos)
    found: list[VideoOnDisk] = []
    missing: list[str] = []
    several: list[list[Path]] = []
    classes: set[str] = set()
    line_of: dict[Path | str, str] = {}
    for where, row, split in _rows(annotations):
        start = _seconds(row["time_start"], where)
        video_id = row["youtube_id"]
        paths = [*by_name.get(f"{video_id}_{start}", []), *by_name.get(video_id, [])]
        path = paths[0] if paths else None
        if len(paths) > 1:
            several.append(paths)
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
                refusal=rule(path),
            )
        )
    if not found:
        is_kinetics = any(KINETICS_NAME.fullmatch(path.stem) for path in videos)
        hint = "are these the lists for it?" if is_kinetics else recognise(root, rule)
        raise InputError(
            f"{root}: holds none of the listed videos ({len(missing)}), e.g. {missing[0]}: {hint}"
        )
    _refuse_several(root, several)
    num_unlisted = len(videos) - len(found)
    notes = [f"{counted(num_unlisted, 'video')} on disk in no list"] if num_unlisted else []
    return build("kinetics400", root, found, classes=classes, missing=missing, notes=notes)


def _refuse_several(root: Path, several: Sequence[Sequence[Path]]) -> None:
    if several:
        raise InputError(
            f"{root}: {len(several)} of the listed videos have more than one file, e.g."
            f" {' and '.join(map(str, several[0]))}; keep one file of each video"
        )


def _by_name(videos: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each video, by ID_START without leading zeros, or by ID if START is unknown."""
    by_name: dict[str, list[Path]] = {}
    for path in videos:
        match = KINETICS_NAME.fullmatch(path.stem)
        name = f"{match['id']}_{int(match['start'])}" if match else path.stem
        by_name.setdefault(name, []).append(path)
    return by_name


def _rows(annotations: Sequence[Path | str]) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yields (file and line, row, split) of all lists."""
    for path in map(Path, annotations):
        if not is_file(path):
            raise InputError(f"{path}: no such file; the annotations are Kinetics' CSV lists")
        words = re.split(r"[^a-z]+", path.stem.lower())
        by_name = next(filter(None, map(split_of_word, words)), None)
        num_rows = 0
        for line, row in csv_rows(path, ("label", "youtube_id", "time_start")):
            split = split_of_word(row["split"]) if row.get("split") else by_name
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
