"""What several tests share."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.sources.source import Dataset
from tests.make_videos import make_video


def make_set(root: Path) -> Path:
    """Two classes of five videos of 20 frames, 96 x 128."""
    for class_name in ("spin", "jump"):
        for index in range(5):
            make_video(root / class_name / f"{class_name}{index}.mp4", num_frames=20, seed=index)
    return root


def touch(root: Path, *names: str) -> Path:
    """Empty files below root; listing does not open them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def fault_of(call: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The one line that the call complains with."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def pairs(count: int, *classes: str) -> list[str]:
    """Names of `count` videos in each class folder."""
    return [f"{name}/{index}.mp4" for name in classes for index in range(count)]


def counts(dataset: Dataset) -> list[tuple[int, int]]:
    """(train, test) of every split number."""
    return [
        (splits.count("train"), splits.count("test"))
        for splits in zip(*(source.splits for source in dataset.sources), strict=True)
    ]


def first_splits(dataset: Dataset) -> Counter[str]:
    """How many videos have which membership in split 1."""
    return Counter(source.splits[0] for source in dataset.sources)
