"""Shards keep to their size."""

from pathlib import Path

from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder


def test_shards_keep_to_their_size(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = ingest(from_folder(videos), out, shard_bytes=60_000)
    sizes = [path.stat().st_size for path in sorted(out.glob("*.tar"))]
    assert report.num_shards == len(sizes) > 2
    # A tar is padded to a multiple of 10 KiB.
    assert max(sizes) <= 60_000 + 10_240
    assert sum(sizes) == report.num_bytes


def test_a_video_larger_than_a_shard_gets_its_own(videos: Path, tmp_path: Path) -> None:
    report = ingest(from_folder(videos), tmp_path / "out", shard_bytes=1)
    assert report.num_shards == report.num_videos == 10
