"""The layouts that are tried, and the one that is chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.engines.dali.layout import DaliLayout, DaliViews, Trial, candidates, choose
from shards.errors import InputError


def test_layouts_worth_trying() -> None:
    for num_engines in range(1, 9):
        layouts = candidates(num_engines)
        assert len(set(layouts)) == len(layouts)
        sizes = [layout.num_batches for layout in layouts]
        assert sizes == sorted(sizes)
        assert sizes[0] == 1
        assert {layout.num_pipelines for layout in layouts} >= {1, 2, num_engines}
        assert {layout.views for layout in layouts} == {DaliViews.OPERATORS}
        both = candidates(num_engines, list(DaliViews))
        assert len(set(both)) == 2 * len(layouts)
        assert [layout for layout in both if layout.views == DaliViews.OPERATORS] == layouts
        assert both[0].views == DaliViews.KERNEL  # it takes less memory


@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(0, 1e5)), min_size=1, max_size=8),
    st.one_of(st.none(), st.floats(0, 1e5)),
)
def test_the_choice_is_the_smallest_of_the_fast_ones_that_fit(
    measured: list[tuple[float, float]], cap: float | None
) -> None:
    trials = [
        Trial(layout=DaliLayout(num_pipelines=n, depth=1), videos_per_s=speed, gpu_memory_mb=memory)
        for n, (speed, memory) in enumerate(measured, start=1)
    ]
    fitting = [trial for trial in trials if cap is None or trial.gpu_memory_mb <= cap]
    if not fitting:
        with pytest.raises(InputError, match="gpu_memory_mb"):
            choose(trials, cap)
        return
    chosen = trials[choose(trials, cap).num_pipelines - 1]
    assert chosen in fitting
    for trial in fitting:
        assert chosen.videos_per_s >= 0.95 * trial.videos_per_s - 1e-9
        if trial.layout < chosen.layout:
            assert trial.videos_per_s < max(other.videos_per_s for other in fitting)


def test_impossible_layouts_are_named() -> None:
    with pytest.raises(InputError, match="num_pipelines=0"):
        DaliLayout(num_pipelines=0, depth=1)
    with pytest.raises(InputError, match="views is 'shader': choose one of kernel, operators"):
        DaliLayout(num_pipelines=1, depth=1, views="shader")
