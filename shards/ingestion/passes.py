"""Which sources come from one decode of a file.

All segments of a file come from one pass over it, and they lie side by side in the shards. Segments
that overlap are encoded at the same time, and each needs an encoder with its memory. So at most
`MAX_AT_ONCE` are encoded at the same time. If more overlap, there are several passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path

import numpy as np

from shards.encode.recipe import Recipe
from shards.sources.segment import Segment
from shards.sources.source import Source

MAX_AT_ONCE = 8
"""How many segments of a file are encoded at the same time."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One decode of a file.

    Attributes:
        path: The file.
        parts: What is stored of it, in this order: segments, and None for the whole file.
    """

    path: Path
    parts: tuple[Segment | None, ...]


def ordered_passes(sources: Sequence[Source], recipe: Recipe, seed: int) -> list[list[Source]]:
    """All sources in the order in which they are stored, a list for each pass over a file.

    Args:
        sources: All sources of a data set.
        recipe: How they are stored.
        seed: The seed of the order of the files.
    """
    files = _files(sources)
    order = np.random.default_rng(seed).permutation(len(files))
    return [one for index in order for one in _passes_over(files[index], recipe)]


def _files(sources: Sequence[Source]) -> list[list[Source]]:
    """Groups the sources: those of a file with segments together, each other source by itself."""
    is_cut = {source.path for source in sources if source.segment is not None}
    files: dict[object, list[Source]] = {}
    for source in sources:
        files.setdefault(source.path if source.path in is_cut else source.key, []).append(source)
    return list(files.values())


def _passes_over(sources: Sequence[Source], recipe: Recipe) -> list[list[Source]]:
    """The sources of one file in the order in which they are stored, a list for each pass."""
    if len(sources) == 1:
        return [list(sources)]
    longest_s = None if recipe.max_seconds is None else Fraction(recipe.max_seconds)
    spans = []
    for source in sources:
        segment = source.segment or Segment(start_s=Fraction(0))
        ends = [segment.end_s, None if longest_s is None else segment.start_s + longest_s]
        spans.append((segment.start_s, min((end for end in ends if end is not None), default=None)))
    return [[sources[index] for index in group] for group in in_groups(spans)]


def in_groups(spans: Sequence[tuple[Fraction, Fraction | None]]) -> list[list[int]]:
    """Puts spans into groups in which at most `MAX_AT_ONCE` overlap at any time.

    Args:
        spans: (start, end) of each; the end is None for the end of the file.

    Returns:
        The indices of the spans of each group, in the order of their ends. There is one group if
        never more than `MAX_AT_ONCE` spans overlap.
    """

    def end_of(index: int) -> tuple[bool, Fraction]:
        end = spans[index][1]
        return end is None, end or Fraction(0)

    # A span takes the first lane that is free, so there are as many lanes as spans overlap.
    busy: list[tuple[tuple[bool, Fraction], int]] = []
    free: list[int] = []
    lanes: list[list[int]] = []
    for index in sorted(range(len(spans)), key=lambda i: (spans[i][0], end_of(i), i)):
        while busy and busy[0][0] <= (False, spans[index][0]):
            heappush(free, heappop(busy)[1])
        if not free:
            lanes.append([])
            heappush(free, len(lanes) - 1)
        lane = heappop(free)
        lanes[lane].append(index)
        heappush(busy, (end_of(index), lane))
    groups = [lanes[n : n + MAX_AT_ONCE] for n in range(0, len(lanes), MAX_AT_ONCE)]
    return [
        sorted((i for lane in group for i in lane), key=lambda i: (*end_of(i), spans[i][0], i))
        for group in groups
    ]
