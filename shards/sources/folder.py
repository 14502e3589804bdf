"""Videos in class folders, optionally below train/, val/ and test/ folders."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from shards.errors import InputError
from shards.format.splits import SplitName
from shards.sources.class_folders import found_classes
from shards.sources.class_sizes import check_class_sizes
from shards.sources.source import Dataset, VideoOnDisk, build
from shards.sources.split_draw import SplitDraw


def from_folder(
    root: Path | str,
    *,
    test_percent: float = 0.0,
    seed: int = 0,
    min_per_class: int = 2,
    follow_links: bool = False,
) -> Dataset:
    """Class folders (CLASS/**/video), optionally below train/, val/, test/ folders.

    Args:
        root: The folder with the class folders or the split folders.
        test_percent: Without split folders, this share of each class becomes "test": at least one
            video, but never all. 0 leaves every video in "train".
        seed: The seed of the draw of the "test" videos; only with `test_percent`.
        min_per_class: A class with fewer videos is an error.
        follow_links: Also take videos outside the root that links lead to.

    Raises:
        InputError: The folder is missing, empty or laid out in another way, a class is too small,
            or `test_percent` is given although there are split folders, or `seed` without it.
    """
    root = Path(root)
    if not 0 <= test_percent < 100:
        raise InputError(
            f"{root}: test percent {test_percent}: give a percentage from 0 to below 100"
        )
    if seed and not test_percent:
        raise InputError(f"{root}: seed is {seed}, but without test_percent nothing is drawn")
    folders = found_classes(root, follow_links)
    splits = sorted({folder.split for folder in folders if folder.split is not None})
    if splits and test_percent:
        raise InputError(
            f"{root}: holds split folders ({', '.join(splits)}), so the test"
            " percentage has nothing to decide: leave it out"
        )
    found, names = [], set()
    for folder in folders:
        name = folder.path.name
        names.add(name)
        membership = (folder.split or SplitName.TRAIN,)
        found += [
            VideoOnDisk(path=path, class_name=name, splits=membership, refusal=refusal)
            for path, refusal in folder.videos.items()
        ]
    dataset = build(root.resolve().name, root, found, classes=names)
    of_videos = (dataset.classes[source.label] for source in dataset.sources)
    check_class_sizes(root, dataset.classes, of_videos, min_per_class)
    return dataset if splits else _drawn(dataset, SplitDraw(test_percent, seed))


def _drawn(dataset: Dataset, draw: SplitDraw) -> Dataset:
    """The data set with splits that are drawn.

    Raises:
        InputError: A class has only one video, and `draw.test_percent` is above 0.
    """
    labels = [source.label for source in dataset.sources]
    sizes = np.bincount(labels)
    if draw.test_percent and sizes.min() < 2:
        name = dataset.classes[int(sizes.argmin())]
        raise InputError(
            f"{dataset.root}: class {name!r} has one video, which cannot be both train and test:"
            " add one, or leave out the test percentage"
        )
    splits = draw.splits([source.key for source in dataset.sources], labels)
    sources = tuple(
        replace(source, splits=(split,))
        for source, split in zip(dataset.sources, splits, strict=True)
    )
    return replace(dataset, sources=sources, draw=draw)
