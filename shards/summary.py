"""`summarize`: numbers about a finished folder of shards as a whole, and about each class."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.format.dataset_json import read_dataset_json
from shards.format.manifest import Manifest, read_manifest
from shards.format.splits import SplitName


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The sum of many numbers, and how they are spread."""

    total: float
    least: float
    median: float
    greatest: float


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """One class.

    Attributes:
        label: Its index.
        name: Its name.
        num_videos: How many videos it has.
        num_frames: How many frames they have.
        median_s: The median duration in seconds; None without a video.
    """

    label: int
    name: str
    num_videos: int
    num_frames: int
    median_s: float | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished folder of shards.

    Attributes:
        name: The name of the data set.
        digest: The hex SHA-256 of the content.
        num_videos: How many videos are stored.
        num_skipped: How many videos could not be used.
        num_missing: How many videos the lists of the data set name but the disk does not have.
        num_shards: How many shards there are.
        num_bytes: The size of all stored videos.
        num_unindexed: How many videos have no packet index, so that a loader reads all of their
            file.
        frames: The number of frames of a video.
        seconds: The duration of a video.
        rates: All frame rates, rounded to 0.01 frames per second, ascending.
        sizes: All picture sizes, (width, height) in pixels, ascending.
        codecs: All codecs, by FFmpeg's names.
        pixels: All combinations "pixel format, colour matrix, colour range", for people.
        splits: For each split number {membership: number of videos}, without empty ones.
        classes: All classes, by label.
    """

    name: str
    digest: str
    num_videos: int
    num_skipped: int
    num_missing: int
    num_shards: int
    num_bytes: int
    num_unindexed: int
    frames: Spread
    seconds: Spread
    rates: tuple[float, ...]
    sizes: tuple[tuple[int, int], ...]
    codecs: tuple[str, ...]
    pixels: tuple[str, ...]
    splits: tuple[dict[SplitName, int], ...]
    classes: tuple[ClassSummary, ...]

    @property
    def empty_classes(self) -> list[str]:
        """The names of the classes that have a label but no video."""
        return [one.name for one in self.classes if not one.num_videos]


def summarize(root: Path | str) -> Summary:
    """Numbers about a finished folder of shards; the videos themselves are not read.

    Args:
        root: A path, or a URL that fsspec opens.

    Raises:
        InputError: As for `read_manifest`.
    """
    manifest, about = read_manifest(root), read_dataset_json(root)
    sizes = np.unique(np.stack([manifest.widths, manifest.heights], axis=1), axis=0)
    columns = (manifest.pixel_formats, manifest.color_matrices, manifest.color_ranges)
    return Summary(
        name=manifest.name,
        digest=manifest.digest,
        num_videos=len(manifest),
        num_skipped=about.num_skipped,
        num_missing=about.num_missing,
        num_shards=len(manifest.shard_names),
        num_bytes=int(manifest.sizes.sum()),
        num_unindexed=int((~manifest.has_packets).sum()),
        frames=_spread(manifest.num_frames),
        seconds=_spread(manifest.num_frames / manifest.fps),
        rates=tuple(np.unique(np.round(manifest.fps, 2)).tolist()),
        sizes=tuple((int(width), int(height)) for width, height in sizes),
        codecs=tuple(sorted(set(manifest.codecs))),
        pixels=tuple(sorted({" ".join(names) for names in zip(*columns, strict=True)})),
        splits=tuple(
            {name: count[name.text] for name in SplitName if name.text in count}
            for count in about.counts
        ),
        classes=tuple(_class_summary(manifest, label) for label in range(len(manifest.classes))),
    )


def _spread(values: np.ndarray) -> Spread:
    least, median, greatest = np.percentile(values, [0, 50, 100]).tolist()
    return Spread(total=values.sum().item(), least=least, median=median, greatest=greatest)


def _class_summary(manifest: Manifest, label: int) -> ClassSummary:
    num_frames = manifest.num_frames[manifest.labels == label]
    seconds = num_frames / manifest.fps[manifest.labels == label]
    return ClassSummary(
        label=label,
        name=manifest.classes[label],
        num_videos=len(num_frames),
        num_frames=int(num_frames.sum()),
        median_s=float(np.median(seconds)) if len(seconds) else None,
    )
