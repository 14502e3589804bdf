import pytest

from shards.counted import counted


@pytest.mark.parametrize(
    ("noun", "one", "more"),
    [
        ("shard", "1 shard", "2 shards"),
        ("class", "1 class", "2 classes"),
        ("batch", "1 batch", "2 batches"),
        ("entry", "1 entry", "2 entries"),
        ("key", "1 key", "2 keys"),
        ("labelled video", "1 labelled video", "2 labelled videos"),
    ],
)
def test_a_noun_stands_for_one_or_for_several(noun: str, one: str, more: str) -> None:
    assert (counted(1, noun), counted(2, noun)) == (one, more)
    assert counted(0, noun) == more.replace("2", "0")
