"""What several tests share."""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from shards.errors import InputError
from shards.files.store import open_store
from shards.format.dataset_json import DatasetJson
from shards.format.manifest import write_manifest
from shards.format.splits import split_counts
from shards.format.video import Video
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


def rewritten(root: Path, about: DatasetJson, videos: list[Video]) -> DatasetJson:
    """Writes a manifest with these rows, and a dataset.json that counts them."""
    (root / ".ingest").mkdir(parents=True, exist_ok=True)
    used = {video.shard for video in videos}
    content = replace(
        about,
        num_videos=len(videos),
        num_sources=len(videos) + about.num_skipped,
        num_frames=sum(video.num_frames for video in videos),
        counts=split_counts(video.splits for video in videos),
        shards=tuple(shard for shard in about.shards if shard.name in used),
    )
    return write_manifest(open_store(root), videos, content)


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


def files_in(folder: Path) -> dict[str, bytes]:
    """{name: content} of the files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has just ended
            found += map(int, path.read_text().split())
    return found


def has_open(pid: int, name: str) -> bool:
    """Whether a process has a file open whose path ends like this."""
    try:
        return any(os.readlink(path).endswith(name) for path in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:  # a file was closed, or the process has ended
        return False


def decoded_frames(data: bytes) -> Iterator[VideoFrame]:
    """Yields the frames of an encoded video."""
    with av.open(io.BytesIO(data)) as container:
        yield from container.decode(video=0)


def decoded_rgb(data: bytes) -> np.ndarray:
    """(N, H, W, 3) float64, the frames of an encoded video."""
    frames = [frame.to_ndarray(format="rgb24") for frame in decoded_frames(data)]
    return np.stack(frames).astype(float)
