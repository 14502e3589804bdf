"""The way of a batch through the files of the training's side of a loader process."""

from loaders import open_loader
from shards.format.manifest import Manifest
from tests.walk import walking


def test_a_batch_returns_to_no_file(textured_shards: Manifest) -> None:
    with (
        walking() as walk,
        open_loader(
            textured_shards, "student", size_px=32, batch_size=1, num_workers=1, in_process=False
        ) as loader,
    ):
        batches = loader.stream()
        for _ in range(6):
            kept = next(batches)
        before = len(walk.entered)
        # An earlier batch that is freed hands over its slot, which is not a part of this one's way.
        following = next(batches)
        entered = walk.entered[before:]
        del kept, following
    assert "loaders/loader_process/ring.py" in entered
    assert sorted(entered) == sorted(set(entered))
