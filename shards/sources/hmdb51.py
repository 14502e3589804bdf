"""HMDB51 as its authors distribute it, by its 153 official lists."""

from pathlib import Path

from shards.errors import InputError
from shards.files.path_kinds import is_folder
from shards.format.splits import SplitName
from shards.sources.class_folders import existing_folder, link_rule
from shards.sources.class_sizes import check_class_sizes
from shards.sources.official_lists import (
    NUM_SPLITS,
    list_lines,
    missing_videos,
    part_notes,
    videos_by_class,
)
from shards.sources.recognise import HMDB51_NAME
from shards.sources.source import Dataset, VideoOnDisk, build

_COUNTS = (51, 6_766)  # classes, videos
_SPLIT_OF_CODE = {"0": SplitName.UNUSED, "1": SplitName.TRAIN, "2": SplitName.TEST}


def from_hmdb51(
    root: Path | str, annotations: Path | str, *, follow_links: bool = False
) -> Dataset:
    """HMDB51 as unpacked, or a part of it: class folders with MOVIE_class_..._N.avi.

    `group` is the movie. A video that a split does not use has "" there. The papers on
    semi-supervised learning take these as unlabelled videos; see `Manifest.indices`.

    Args:
        root: The folder with the class folders.
        annotations: The folder with CLASS_test_splitN.txt, three for each class.
        follow_links: Also take videos outside the root that links lead to.

    Raises:
        InputError: The root is not HMDB51 (the message says what it looks like), lists are missing
            or malformed, or a video is in no list.
    """
    root, annotations = existing_folder(root), Path(annotations)
    rule = link_rule(root, follow_links)
    videos = videos_by_class(root, "HMDB51", HMDB51_NAME, rule)
    listed = _splits_in_lists(annotations)
    found = []
    for class_name, path in ((name, path) for name, paths in videos.items() for path in paths):
        name = f"{class_name}/{path.stem}"
        if name not in listed:
            raise InputError(
                f"{path}: not in {class_name}_test_splitN.txt in {annotations}; rename or remove"
                " it, or use `tb shard folder`"
            )
        match = HMDB51_NAME.fullmatch(path.stem)
        start = match["start"] if match else path.stem
        found.append(
            VideoOnDisk(
                path=path,
                class_name=class_name,
                splits=listed[name],
                group=start.removesuffix(f"_{class_name}"),
                refusal=rule(path),
            )
        )
    check_class_sizes(root, videos, (video.class_name for video in found), min_per_class=1)
    notes = part_notes("HMDB51", found, _COUNTS)
    return build("hmdb51", root, found, missing=missing_videos(found, listed), notes=notes)


def _splits_in_lists(folder: Path) -> dict[str, tuple[SplitName, ...]]:
    """{"class/name without extension": membership in splits 1 to 3} from the 153 list files."""
    firsts = sorted(folder.glob("*_test_split1.txt")) if is_folder(folder) else []
    if not firsts:
        raise InputError(
            f"{folder}: no CLASS_test_split1.txt in it; the annotations are the folder of HMDB51's"
            " 153 split files"
        )
    listed: dict[str, list[SplitName]] = {}
    for first in firsts:
        class_name = first.name.removesuffix("_test_split1.txt")
        for index in range(NUM_SPLITS):
            path = folder / f"{class_name}_test_split{index + 1}.txt"
            for line in list_lines(path):
                name, _, code = line.rpartition(" ")
                if code not in _SPLIT_OF_CODE:
                    raise InputError(f"{path}: {line!r}: should read NAME.avi 0, 1 or 2")
                key = f"{class_name}/{name.strip().removesuffix('.avi')}"
                listed.setdefault(key, [SplitName.UNUSED] * NUM_SPLITS)[index] = _SPLIT_OF_CODE[
                    code
                ]
    return {name: tuple(splits) for name, splits in listed.items()}
