"""How often one video, from its source to its shard, returns to a file that it has left."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.ingestion import worker
from shards.ingestion.ingest import ingest
from shards.ingestion.passes import Pass
from shards.ingestion.worker import Worker
from shards.sources.folder import from_folder
from tests.make_videos import make_video
from tests.walk import walking


def test_a_video_returns_only_where_contributing_md_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_here(
        _: Worker, one_pass: Pass, recipe: Recipe, __: float
    ) -> Iterator[Encoded | TranscodeError]:
        yield from worker._answers(one_pass, recipe)

    monkeypatch.setattr(Worker, "encode", encode_here)
    monkeypatch.setattr(worker, "Worker", Worker)  # not that of the tests
    make_video(tmp_path / "in" / "a" / "a.mp4", num_frames=20)
    recipe = Recipe()
    with walking() as walk:
        dataset = from_folder(tmp_path / "in", min_per_class=1)
        ingest(dataset, tmp_path / "out", recipe=recipe, workers=1)
    names = [name.removeprefix("shards/") for _, name in walk.returns]
    assert Counter(name for name in names if not name.startswith("files/")) == {
        # They are made, used and closed, or used before and after the encoding.
        "ingestion/collector.py": 3,
        "ingestion/worker.py": 3,
        "ingestion/passes.py": 1,
        "ingestion/journal.py": 1,
        "ingestion/out_checks.py": 1,
        "encode/video_stream.py": 2,
        "progress.py": 1,
        "sources/class_folders.py": 3,
        # What describes a video, its recipe or its shard answers where it is used.
        "sources/source.py": 4,
        "encode/recipe.py": 2,
        "format/shard.py": 4,
        "format/packet_index.py": 2,
        "format/video.py": 3,
        "format/dataset_json.py": 1,
    }
    # Each file of a set is published in one place, and at its own time.
    assert len([name for name in names if name.startswith("files/")]) == 27
    assert len(set(walk.entered)) == 44
