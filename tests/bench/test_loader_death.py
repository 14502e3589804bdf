"""The bench of the loader process' death gives a delay."""

from bench.loader_death import delay_s
from shards.format.manifest import Manifest


def test_the_death_is_noticed(textured_shards: Manifest) -> None:
    assert delay_s(textured_shards.root) > 0
