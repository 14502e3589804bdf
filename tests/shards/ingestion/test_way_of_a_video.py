"""How often one video, from its source to its shard, returns to a file that it has left."""

from collections import Counter
from pathlib import Path

from shards.encode.recipe import Recipe
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.make_videos import make_video
from tests.walk import walking


def test_a_video_among_others_returns_to_no_file(tmp_path: Path) -> None:
    """From a worker's result to the shard."""
    for name in "abc":
        make_video(tmp_path / "in" / "a" / f"{name}.mp4", num_frames=20)
    ends: list[int] = []
    with walking() as walk:
        ingest(
            from_folder(tmp_path / "in"),
            tmp_path / "out",
            workers=1,
            progress=lambda done, total, key: ends.append(len(walk.entered)),
        )
    # Reported are the beginning and each video. The first video begins the shard.
    entered = walk.entered[ends[1] : ends[2]]
    assert "shards/format/shard.py" in entered
    assert sorted(entered) == sorted(set(entered))


def test_an_ingestion_returns_only_where_contributing_md_says_why(tmp_path: Path) -> None:
    """In the worker's process, the way is that of `transcode`, which has a test of its own."""
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
        # A shard is begun, filled and published.
        "format/shard.py": 2,
        # Its rows are noted, and all rows become a table.
        "format/video.py": 1,
    }
    assert len(names) == 24
    assert len(set(walk.entered)) == 39
