"""How often the training's side of a loader process returns to a file that it has left."""

from collections import Counter

from loaders import open_loader
from shards.format.manifest import Manifest
from tests.walk import walking


def test_a_batch_returns_only_where_contributing_md_says_why(textured_shards: Manifest) -> None:
    with (
        walking() as walk,
        open_loader(
            textured_shards, "student", size_px=32, batch_size=1, num_workers=1, in_process=False
        ) as loader,
    ):
        batches = loader.stream()
        for _ in range(6):
            next(batches)
        walk.begin()
        next(batches)
        entered, returns = list(walk.entered), walk.returns
    assert Counter(name.removeprefix("loaders/") for _, name in returns) == {
        # It asks whether the process is dead, waits for a batch, and hands over the slot before.
        "loader_process/process_loader.py": 2,
        "loader_process/process_producer.py": 1,
        # One message says which slot is free, and one brings the batch.
        "loader_process/messages.py": 1,
        # The slot of an earlier batch comes back, and then views of the new one are made.
        "loader_process/ring.py": 1,
    }
    assert len(set(entered)) == 9
