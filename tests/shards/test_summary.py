"""The summary of a folder of shards is that of its rows."""

from dataclasses import replace
from pathlib import Path

import shards
from shards.format.dataset_json import read_dataset_json
from shards.format.manifest import Manifest
from tests.shards.helpers import rewritten


def test_the_summary_counts_rows(manifest: Manifest) -> None:
    summary = shards.summarize(manifest.root)
    assert (summary.name, summary.digest) == (manifest.name, manifest.digest)
    assert (summary.num_videos, summary.num_skipped, summary.num_missing) == (10, 0, 0)
    assert summary.num_shards == len(manifest.shard_names)
    assert (summary.num_bytes, summary.num_unindexed) == (manifest.sizes.sum(), 0)
    assert (summary.frames.total, summary.frames.least, summary.frames.greatest) == (200, 20, 20)
    assert (summary.seconds.total, summary.seconds.median) == (8, 0.8)
    assert (summary.rates, summary.sizes, summary.codecs) == ((25,), ((128, 96),), ("h264",))
    assert summary.pixels == ("yuv420p bt601 limited",)
    assert summary.splits == ({"train": 10},)
    assert [(one.name, one.num_videos, one.num_frames) for one in summary.classes] == [
        ("jump", 5, 100),
        ("spin", 5, 100),
    ]
    assert summary.empty_classes == []


def test_the_order_of_split_names_and_an_empty_class(manifest: Manifest, tmp_path: Path) -> None:
    names = ["", "test", "train", "val", "train"]
    videos = [
        replace(manifest.video(row), label=0, splits=(name,)) for row, name in enumerate(names)
    ]
    videos[1] = replace(videos[1], packets_sha256="")
    rewritten(tmp_path, read_dataset_json(manifest.root), videos)
    summary = shards.summarize(tmp_path)
    [counts] = summary.splits
    assert [(name.text, count) for name, count in counts.items()] == [
        ("train", 2),
        ("val", 1),
        ("test", 1),
        ("unused", 1),
    ]
    assert summary.empty_classes == ["spin"]
    assert summary.num_unindexed == 1
    assert summary.classes[1].median_s is None
