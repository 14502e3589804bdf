"""UCF101 as its authors distribute it.

Its official lists follow a rule on the group number in the file name, so no list is needed.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from shards.errors import InputError
from shards.format.splits import SplitName
from shards.sources.class_folders import existing_folder, link_rule
from shards.sources.class_sizes import check_class_sizes
from shards.sources.official_lists import (
    NUM_SPLITS,
    list_lines,
    list_name,
    missing_videos,
    part_notes,
    videos_by_class,
)
from shards.sources.recognise import UCF101_NAME
from shards.sources.source import Dataset, VideoOnDisk, build

_COUNTS = (101, 13_320)  # classes, videos
_NUM_GROUPS = 25
_GROUPS_PER_TEST_LIST = 7


def official_splits(group: int) -> tuple[SplitName, SplitName, SplitName]:
    """Membership of one group in the official splits 1, 2 and 3.

    The rule: test lists 1, 2 and 3 have groups 1-7, 8-14 and 15-21. Each train list has the rest.

    Args:
        group: The number after `_g` in the file name (v_Class_gNN_cNN.avi), 1 to 25.

    Raises:
        InputError: The group is not in 1..25.
    """
    if not 1 <= group <= _NUM_GROUPS:
        raise InputError(f"UCF101 group {group}: groups run from 1 to 25; check the file names")
    test_list = (group - 1) // _GROUPS_PER_TEST_LIST
    one, two, three = (
        SplitName.TEST if test_list == number else SplitName.TRAIN for number in range(NUM_SPLITS)
    )
    return one, two, three


def from_ucf101(
    root: Path | str, annotations: Path | str | None = None, *, follow_links: bool = False
) -> Dataset:
    """UCF101 as unpacked, or a part of it: class folders with v_Class_gNN_cNN.avi.

    The three official splits follow from the group number in the name. `group` is Class_gNN: one
    person in one scene.

    Args:
        root: The folder with the class folders.
        annotations: The folder with trainlist0N.txt and testlist0N.txt. It is not needed. If it is
            given, the lists must agree with the names, and they show which videos are missing.
        follow_links: Also take videos outside the root that links lead to.

    Raises:
        InputError: The root is not UCF101 (the message says what it looks like), a class folder is
            empty, the name of a file does not fit, or the lists disagree with the rule.
    """
    root = existing_folder(root)
    rule = link_rule(root, follow_links)
    videos = videos_by_class(root, "UCF101", UCF101_NAME, rule)
    found = []
    for class_name, path in ((name, path) for name, paths in videos.items() for path in paths):
        match = UCF101_NAME.fullmatch(path.stem)
        # Case does not count: the folder HandstandPushups has v_HandStandPushups_g01_c01.avi.
        if match is None or match["name"].lower() != class_name.lower():
            raise InputError(
                f"{path}: the name does not fit UCF101's v_{class_name}_gNN_cNN; rename or remove"
                " it, or use `tb shard folder`"
            )
        found.append(
            VideoOnDisk(
                path=path,
                class_name=class_name,
                splits=official_splits(int(match["group"])),
                group=f"{class_name}_g{match['group']}",
                refusal=rule(path),
            )
        )
    check_class_sizes(root, videos, (video.class_name for video in found), min_per_class=1)
    missing: list[str] = []
    if annotations is not None:
        listed = _splits_in_lists(Path(annotations))
        _check_agreement(found, listed, Path(annotations))
        missing = missing_videos(found, listed)
    notes = part_notes("UCF101", found, _COUNTS)
    return build("ucf101", root, found, missing=missing, notes=notes)


def _splits_in_lists(folder: Path) -> dict[str, tuple[SplitName, ...]]:
    """{"Class/v_Class_gNN_cNN": membership in splits 1 to 3} from the six list files."""
    listed: dict[str, list[SplitName]] = {}
    for index in range(NUM_SPLITS):
        for split in (SplitName.TRAIN, SplitName.TEST):
            for line in list_lines(_list_file(folder, split, index)):
                name = os.path.splitext(line.split(" ")[0])[0]
                splits = listed.setdefault(name, [SplitName.UNUSED] * NUM_SPLITS)
                splits[index] = split
    return {name: tuple(splits) for name, splits in listed.items()}


def _check_agreement(
    found: Iterable[VideoOnDisk], listed: dict[str, tuple[SplitName, ...]], folder: Path
) -> None:
    for video in found:
        name = list_name(video)
        in_lists = listed.get(name, (SplitName.UNUSED,) * NUM_SPLITS)
        for number, (list_says, rule_says) in enumerate(zip(in_lists, video.splits, strict=True)):
            if list_says == rule_says:
                continue
            # If no list has the video, the message names the list that should have it.
            split = rule_says if list_says == SplitName.UNUSED else list_says
            file = _list_file(folder, SplitName(split), number)
            does = "does not list it" if list_says == SplitName.UNUSED else "lists it"
            raise InputError(
                f"{name}: {file} {does}, but by the official rule it is in"
                f" {SplitName(rule_says).text} of split {number + 1}; are these UCF101's action"
                " recognition lists?"
            )


def _list_file(folder: Path, split: SplitName, index: int) -> Path:
    """trainlist01.txt for index 0 of the training split, and so on."""
    return folder / f"{split.text}list0{index + 1}.txt"
