"""UCF101 and HMDB51 as their makers hand them out -> sources.

All official splits go into the manifest, and training chooses one by its number. What the lists
name and the disk lacks is counted and listed, never fatal; a file that fits no list is.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from shards.errors import InputError
from shards.labels.fraction import ucf101_splits
from shards.sources.class_folders import class_folders, find_videos
from shards.sources.dataset import (
    Dataset,
    Found,
    build,
    check_class_sizes,
    existing_folder,
    link_fault,
)
from shards.sources.recognise import HMDB51_NAME, UCF101_NAME, recognise

_UCF101_COUNTS = (101, 13_320)
_HMDB51_COUNTS = (51, 6_766)
_HMDB51_SPLIT = {"0": "", "1": "train", "2": "test"}
_NUM_SPLITS = 3


def ucf101(
    root: Path | str, annotations: Path | str | None = None, *, follow_links: bool = False
) -> Dataset:
    """UCF101 as unpacked (or a part of it): class folders with v_Class_gNN_cNN.avi.

    The three official splits follow from the group number in the name; `group` is Class_gNN, one
    person in one scene.

    Args:
        root: the folder with the class folders.
        annotations: the folder with trainlist0N.txt and testlist0N.txt; not needed, but where
            given it must agree, and tells which videos are missing.
        follow_links: take videos outside the root, reached by links, too.

    Raises:
        InputError: root is not UCF101 (the message says what it looks like), a class folder is
            empty, a file's name does not fit, or the lists disagree with the rule.
    """
    root = existing_folder(root)
    videos = _videos_by_class(root, "UCF101", UCF101_NAME)
    fault = link_fault(root, follow_links)
    found = []
    for class_name, path in videos:
        match = UCF101_NAME.fullmatch(path.stem)
        # Without case: the folder HandstandPushups holds v_HandStandPushups_g01_c01.avi.
        if match is None or match["name"].lower() != class_name.lower():
            raise InputError(
                f"{path}: the name does not fit UCF101's v_{class_name}_gNN_cNN; rename or remove"
                " it, or use `tb shard folder`"
            )
        found.append(
            Found(
                path=path,
                class_name=class_name,
                splits=ucf101_splits(int(match["group"])),
                group=f"{class_name}_g{match['group']}",
                fault=fault(path),
            )
        )
    check_class_sizes(root, {top.name for top in class_folders(root)}, found, min_per_class=1)
    missing: list[str] = []
    if annotations is not None:
        listed = _ucf101_lists(Path(annotations))
        _check_agreement(found, listed, Path(annotations))
        missing = _missing(found, listed)
    notes = _part_of("UCF101", found, _UCF101_COUNTS)
    return build("ucf101", root, found, missing=missing, notes=notes)


def hmdb51(root: Path | str, annotations: Path | str, *, follow_links: bool = False) -> Dataset:
    """HMDB51 as unpacked (or a part of it): class folders with MOVIE_class_..._N.avi.

    `group` is the movie. Videos that a split uses for nothing have "" there (the papers on
    semi-supervised learning take them as unlabelled ones; see `Manifest.indices`).

    Args:
        root: the folder with the class folders.
        annotations: the folder with CLASS_test_splitN.txt, three a class.
        follow_links: take videos outside the root, reached by links, too.

    Raises:
        InputError: root is not HMDB51 (the message says what it looks like), lists are missing
            or malformed, or a video is in none.
    """
    root, annotations = existing_folder(root), Path(annotations)
    videos = _videos_by_class(root, "HMDB51", HMDB51_NAME)
    listed = _hmdb51_lists(annotations)
    fault = link_fault(root, follow_links)
    found = []
    for class_name, path in videos:
        name = f"{class_name}/{path.stem}"
        if name not in listed:
            raise InputError(
                f"{path}: not in {class_name}_test_splitN.txt in {annotations}; rename or remove"
                " it, or use `tb shard folder`"
            )
        match = HMDB51_NAME.fullmatch(path.stem)
        start = match["start"] if match else path.stem
        found.append(
            Found(
                path=path,
                class_name=class_name,
                splits=listed[name],
                group=start.removesuffix(f"_{class_name}"),
                fault=fault(path),
            )
        )
    check_class_sizes(root, {top.name for top in class_folders(root)}, found, min_per_class=1)
    notes = _part_of("HMDB51", found, _HMDB51_COUNTS)
    return build("hmdb51", root, found, missing=_missing(found, listed), notes=notes)


def _videos_by_class(root: Path, name: str, pattern: re.Pattern[str]) -> list[tuple[str, Path]]:
    """(class folder's name, path) of all videos, after a look at whether this is the data set."""
    try:
        tops = class_folders(root)
    except InputError as error:
        raise InputError(f"{error} (or, if this is to be {name}: {recognise(root)})") from error
    videos = [(top.name, path) for top in tops for path in find_videos(top)]
    fitting = [path for _, path in videos if pattern.fullmatch(path.stem)]
    if not fitting or fitting[0].parent.parent != root:
        raise InputError(f"{root}: not {name}: {recognise(root)}")
    return videos


def _ucf101_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """{"Class/v_Class_gNN_cNN": membership in splits 1 to 3} from the six list files."""
    listed: dict[str, list[str]] = {}
    for index in range(_NUM_SPLITS):
        for split in ("train", "test"):
            for line in _lines(folder / f"{split}list0{index + 1}.txt"):
                name = Path(line.split(" ")[0]).with_suffix("").as_posix()
                splits = listed.setdefault(name, [""] * _NUM_SPLITS)
                splits[index] = split
    return {name: tuple(splits) for name, splits in listed.items()}


def _hmdb51_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """{"class/name without extension": membership in splits 1 to 3} from the 153 list files."""
    firsts = sorted(folder.glob("*_test_split1.txt"))
    if not firsts:
        raise InputError(
            f"{folder}: no CLASS_test_split1.txt in it; --annotations takes the folder of HMDB51's"
            " 153 split files"
        )
    listed: dict[str, list[str]] = {}
    for first in firsts:
        class_name = first.name.removesuffix("_test_split1.txt")
        for index in range(_NUM_SPLITS):
            path = folder / f"{class_name}_test_split{index + 1}.txt"
            for line in _lines(path):
                name, _, code = line.rpartition(" ")
                if code not in _HMDB51_SPLIT:
                    raise InputError(f"{path}: {line!r}: should read NAME.avi 0, 1 or 2")
                key = f"{class_name}/{name.strip().removesuffix('.avi')}"
                listed.setdefault(key, [""] * _NUM_SPLITS)[index] = _HMDB51_SPLIT[code]
    return {name: tuple(splits) for name, splits in listed.items()}


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise InputError(f"{path}: {reason}; --annotations takes the unpacked lists") from error
    return [line.strip() for line in lines if line.strip()]


def _check_agreement(
    found: Iterable[Found], listed: dict[str, tuple[str, ...]], folder: Path
) -> None:
    for video in found:
        name = _list_name(video)
        if listed.get(name) != video.splits:
            raise InputError(
                f"{name}: the lists in {folder} put it into {listed.get(name, 'no split')}, the"
                f" official rule into {video.splits}; are these UCF101's action recognition lists?"
            )


def _missing(found: Iterable[Found], listed: dict[str, tuple[str, ...]]) -> list[str]:
    return sorted(listed.keys() - {_list_name(video) for video in found})


def _list_name(video: Found) -> str:
    return f"{video.class_name}/{video.path.stem}"


def _part_of(name: str, found: Sequence[Found], counts: tuple[int, int]) -> list[str]:
    num_classes = len({video.class_name for video in found})
    if (num_classes, len(found)) == counts:
        return []
    return [
        f"not all of {name}: {num_classes} of {counts[0]} classes, {len(found)} of {counts[1]}"
        " videos"
    ]
