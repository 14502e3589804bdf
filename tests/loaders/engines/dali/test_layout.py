"""The layouts that are tried, the one that is chosen, and what is said about it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.engines.dali.layout import (
    Axis,
    DaliLayout,
    DaliViews,
    Trial,
    best_so_far,
    choose,
    limit,
    usual_layout,
    variations,
)
from shards.errors import InputError


@given(num_decoders=st.integers(1, 8), batch_size=st.integers(1, 64))
def test_the_usual_layout_has_few_pipelines_and_more_threads_than_decoders(
    num_decoders: int, batch_size: int
) -> None:
    usual = usual_layout(num_decoders, batch_size)
    assert (usual.num_pipelines, usual.depth) == (2, 2)
    assert usual.num_threads == min(batch_size, 2 * num_decoders)
    # That of an H200, which has 7 decoders.
    assert usual_layout(7, 40).num_threads == 14


@given(axis=st.sampled_from(Axis), num_decoders=st.integers(1, 8), batch_size=st.integers(1, 64))
def test_a_variation_changes_one_thing(axis: Axis, num_decoders: int, batch_size: int) -> None:
    usual = usual_layout(num_decoders, batch_size)
    layouts = variations(axis, usual, num_decoders, batch_size)
    assert len(set(layouts)) == len(layouts)
    assert all(1 <= layout.num_threads <= batch_size for layout in layouts)
    if axis is not Axis.THREADS:
        assert usual in layouts
    views = {layout.views for layout in layouts}
    assert views == (set(DaliViews) if axis is Axis.VIEWS else {DaliViews.OPERATORS})
    if axis is not Axis.DEPTH:
        assert {layout.depth for layout in layouts} == {usual.depth}
    if axis is not Axis.PIPELINES:
        assert {layout.num_pipelines for layout in layouts} == {usual.num_pipelines}
    else:
        # As far as there are videos for them, all pipelines together have the same threads.
        total = usual.num_threads * usual.num_pipelines
        for layout in layouts:
            have = layout.num_threads * layout.num_pipelines
            assert min(total, batch_size * layout.num_pipelines) <= have
            assert have < total + layout.num_pipelines


def test_the_order_of_the_axes_reaches_the_smallest_layout() -> None:
    """If nothing keeps to the memory limit, the error can say what the least takes."""
    layout, trials = usual_layout(7, 40), []
    for axis in Axis:
        for tried in variations(axis, layout, 7, 40):
            memory = 100.0 * tried.num_batches + tried.num_threads
            trials.append(Trial(layout=tried, videos_per_s=1.0, gpu_memory_mb=memory))
        layout = best_so_far(trials, 1.0).layout
    assert layout.num_batches == 1
    with pytest.raises(InputError, match=r"gpu_memory_mb is 1: the smallest layout .* takes 1"):
        choose(trials, 1.0)


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
    chosen = choose(trials, cap)
    assert chosen in fitting
    for trial in fitting:
        assert chosen.videos_per_s >= 0.95 * trial.videos_per_s - 1e-9
        if trial.layout < chosen.layout:
            assert trial.videos_per_s < max(other.videos_per_s for other in fitting)


@pytest.mark.parametrize("name", ["num_pipelines", "depth", "num_threads"])
def test_impossible_layouts_are_named(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=0"):
        DaliLayout(**{"num_pipelines": 1, "depth": 1, "num_threads": 1, name: 0})
    with pytest.raises(InputError, match="views is 'shader': choose one of kernel, operators"):
        DaliLayout(num_pipelines=1, depth=1, views="shader")


@pytest.mark.parametrize(
    ("decoder", "sm", "expected"),
    [
        (91.0, 30.0, "the video decoders, 91 % busy"),
        (91.0, 95.0, "the video decoders, 91 % busy"),
        (40.0, 95.0, "the GPU that makes the views, 95 % busy"),
        (40.0, 30.0, "the CPU or the storage: the video decoders were 40 % busy, .* 30 %"),
        (None, None, "unknown"),
    ],
)
def test_what_limits_a_layout(decoder: float | None, sm: float | None, expected: str) -> None:
    layout = DaliLayout(num_pipelines=2, depth=2)
    chosen = Trial(
        layout=layout,
        videos_per_s=100.0,
        gpu_memory_mb=10.0,
        decoder_percent=decoder,
        sm_percent=sm,
    )
    assert re.match(expected, limit([chosen], chosen, None))
    larger = Trial(
        layout=DaliLayout(num_pipelines=4, depth=2), videos_per_s=110.0, gpu_memory_mb=20.0
    )
    assert choose([chosen, larger], 15.0) == chosen
    told = limit([chosen, larger], chosen, 15.0)
    assert told == "gpu_memory_mb: 4 pipelines x depth 2 x 16 threads gave 110 videos/s"
