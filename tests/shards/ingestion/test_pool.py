"""The bytes do not depend on the number of workers."""

from pathlib import Path

from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.shards.helpers import files_in


def test_every_byte_is_the_same_whatever_the_number_of_workers(
    videos: Path, tmp_path: Path
) -> None:
    trees = []
    for workers in (1, 3):
        out = tmp_path / f"out{workers}"
        ingest(from_folder(videos), out, workers=workers, shard_bytes=100_000)
        trees.append(files_in(out))
    assert trees[0] == trees[1]
    assert len([name for name in trees[0] if name.endswith(".tar")]) > 1
