"""How segments share the decodes of a file."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from shards.ingestion.passes import MAX_AT_ONCE, in_groups

_spans = st.tuples(st.integers(0, 40), st.none() | st.integers(1, 30)).map(
    lambda pair: (Fraction(pair[0]), None if pair[1] is None else Fraction(pair[0] + pair[1]))
)


def _depth(spans: list[tuple[Fraction, Fraction | None]]) -> int:
    return max(
        (sum(s <= t and (e is None or t < e) for s, e in spans) for t, _ in spans), default=0
    )


@given(st.lists(_spans, max_size=60))
def test_a_group_has_few_that_overlap_and_there_are_no_more_groups_than_needed(
    spans: list[tuple[Fraction, Fraction | None]],
) -> None:
    groups = in_groups(spans)
    assert sorted(index for group in groups for index in group) == list(range(len(spans)))
    assert all(_depth([spans[index] for index in group]) <= MAX_AT_ONCE for group in groups)
    assert len(groups) == -(-_depth(spans) // MAX_AT_ONCE)
    for group in groups:
        ends = [spans[index][1] for index in group]
        assert ends == sorted(ends, key=lambda end: (end is None, end or 0))
