"""`zip` for tests that compare streams."""

from collections.abc import Iterable, Iterator
from typing import Any


def paired(*streams: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Pairs up streams of one length, or gives one stream; fails where there is nothing."""
    pair = None
    for pair in zip(*streams, strict=True):
        yield pair
    assert pair is not None, "the streams are empty"
