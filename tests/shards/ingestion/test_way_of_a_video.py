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
    assert Counter(names) == {
        # The folder of the shards: seven files appear, and an earlier run may have left some.
        "files/local_store.py": 14,
        "files/publish.py": 7,
        "files/names.py": 3,
        "files/addresses.py": 1,
        # What describes a video, its recipe or its shard: it answers, or makes a part of the set.
        "sources/source.py": 4,
        "encode/recipe.py": 1,
        "format/shard.py": 3,
        "format/packet_index.py": 2,
        "format/video.py": 3,
        "format/dataset_json.py": 1,
        # They are called several times, with other work in between.
        "sources/class_folders.py": 2,
        "encode/video_stream.py": 2,
        "ingestion/passes.py": 1,
    }
    assert len(names) == 44
    assert len(set(walk.entered)) == 44
