"""Several windows of each video in an epoch: numbered, each once, with draws of their own."""

from collections.abc import Iterable
from dataclasses import fields
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.plan import stage_views
from loaders.plan.draw import Plan, draw_uniform
from loaders.plan.order import Order
from loaders.plan.planner import Planner
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.loaders.plan.drawing import assert_uniform, draw

Window = tuple[int, int, int]
"""Epoch, row and clip."""

clips = st.integers(1, 4)
batch_sizes = st.integers(1, 7)
worlds = st.integers(1, 3)
orders = st.sampled_from(Order)


def planner_of(manifest: Manifest, spec: ViewSpec | None = None, **options: Any) -> Planner:
    given: dict[str, Any] = {
        "rows": np.arange(len(manifest)),
        "batch_size": 3,
        "order": Order.GLOBAL,
        "seed": 4,
        "rank": 0,
        "world_size": 1,
        **options,
    }
    return Planner(manifest=manifest, spec=spec or stage_views.finetune(size_px=16), **given)


def windows_of(plans: Iterable[Plan]) -> list[Window]:
    """The windows in their order, without padding."""
    return [
        window
        for plan in plans
        for window in zip(
            plan.epochs.tolist(), plan.rows.tolist(), plan.clips.tolist(), strict=True
        )
        if window[1] >= 0
    ]


def contents(plans: Iterable[Plan]) -> dict[Window, tuple[bytes, ...]]:
    """What is drawn for each window."""
    found: dict[Window, tuple[bytes, ...]] = {}
    for plan in plans:
        arrays = [getattr(plan, field.name) for field in fields(Plan)]
        arrays = [array for array in arrays if isinstance(array, np.ndarray)]
        for b, window in enumerate(
            zip(plan.epochs.tolist(), plan.rows.tolist(), plan.clips.tolist(), strict=True)
        ):
            if window[1] >= 0:
                assert window not in found
                found[window] = tuple(array[b].tobytes() for array in arrays)
    return found


@given(
    clips=clips, batch_size=batch_sizes, world_size=worlds, order=orders, epoch=st.integers(0, 5)
)
def test_each_clip_of_each_video_once_per_epoch(
    numbered_shards: Manifest,
    clips: int,
    batch_size: int,
    world_size: int,
    order: Order,
    epoch: int,
) -> None:
    """Over all ranks; only the end is padded. The global order is that of one rank."""
    options = {"clips_per_video": clips, "order": order}
    alone = windows_of(planner_of(numbered_shards, **options).epoch(epoch))
    num = len(numbered_shards)
    expected = [(epoch, row, clip) for row in range(num) for clip in range(clips)]
    assert sorted(alone) == expected
    if order == Order.MANIFEST:
        assert alone == expected
    ranks = [
        planner_of(
            numbered_shards, batch_size=batch_size, rank=rank, world_size=world_size, **options
        )
        for rank in range(world_size)
    ]
    global_batches = zip(*(rank.epoch(epoch) for rank in ranks), strict=True)
    assert windows_of(plan for plans in global_batches for plan in plans) == alone
    assert {len(rank) for rank in ranks} == {-(-num * clips // (batch_size * world_size))}
    assert ranks[0].num_windows == num * clips


@given(clips=st.integers(2, 4), epoch=st.integers(0, 2**40), seed=st.integers(0, 2**63 - 1))
def test_clip_0_is_what_one_clip_per_video_draws(
    numbered_shards: Manifest, clips: int, epoch: int, seed: int
) -> None:
    one = contents(planner_of(numbered_shards, seed=seed).epoch(epoch))
    many = contents(planner_of(numbered_shards, seed=seed, clips_per_video=clips).epoch(epoch))
    assert {window: many[window] for window in one} == one
    assert {window for window in many if window[2] == 0} == one.keys()


@given(
    clips=clips, batch_size=batch_sizes, world_size=worlds, order=orders, start=st.integers(0, 30)
)
def test_the_stream_is_the_epochs_end_to_end(
    numbered_shards: Manifest,
    clips: int,
    batch_size: int,
    world_size: int,
    order: Order,
    start: int,
) -> None:
    """From any step on, and with the draws that the epochs have."""
    options = {"clips_per_video": clips, "order": order}
    single = planner_of(numbered_shards, **options)
    num_steps, per_step = 4, batch_size * world_size
    first, end = start * per_step, (start + num_steps) * per_step
    num_epochs = -(-end // single.num_windows)
    epochs = [plan for epoch in range(num_epochs) for plan in single.epoch(epoch)]
    streams = [
        planner_of(
            numbered_shards, batch_size=batch_size, rank=rank, world_size=world_size, **options
        ).stream(start)
        for rank in range(world_size)
    ]
    steps = list(islice(zip(*streams, strict=True), num_steps))
    plans = [plan for step in steps for plan in step]
    assert windows_of(plans) == windows_of(epochs)[first:end]
    expected = contents(epochs)
    for window, content in contents(plans).items():
        assert content == expected[window]


@given(clips=clips, batch_size=batch_sizes, start=st.integers(0, 20), rank=st.integers(0, 1))
def test_uses_of_shards_are_what_the_batches_show(
    numbered_shards: Manifest, clips: int, batch_size: int, start: int, rank: int
) -> None:
    planner = planner_of(
        numbered_shards,
        clips_per_video=clips,
        batch_size=batch_size,
        order=Order.WINDOWED,
        rank=rank,
        world_size=2,
    )
    start = min(start, len(planner))
    seen: dict[int, list[int]] = {}
    for step, plan in enumerate(planner.epoch(1)):
        for shard in numbered_shards.shard_index[plan.rows[plan.rows >= 0]].tolist():
            seen.setdefault(shard, []).append(step)
    expected = {shard: (steps[0], steps[-1]) for shard, steps in seen.items()}
    uses = {use.shard: (use.first, use.last) for use in planner.uses_of_epoch(1, start)}
    assert uses == {shard: use for shard, use in expected.items() if use[1] >= start}


def test_the_clips_of_a_video_are_independent_draws() -> None:
    rows = np.zeros(1500, np.int64)
    spec = stage_views.finetune(num_frames=4, stride=1)
    plan = draw(spec, rows, clips=np.arange(1500))
    start = plan.frames[:, 0, 0]
    assert (start.min(), start.max()) == (0, 146)
    assert_uniform((start + np.random.default_rng(0).random(1500)) / 147, 0, 1)
    assert abs(np.corrcoef(start[:-1], start[1:])[0, 1]) < 5 / np.sqrt(1500)
    # A clip is no other epoch, video or seed.
    row, one = np.array([1]), np.array([1])
    drawn = {
        draw(spec, row, clips=0 * one).crop.tobytes(),
        draw(spec, row, clips=one).crop.tobytes(),
        draw(spec, row + 1, clips=0 * one).crop.tobytes(),
        draw(spec, row, clips=0 * one, seed=2).crop.tobytes(),
    }
    assert len(drawn) == 4


def test_a_user_s_own_draws_differ_between_clips() -> None:
    rows = np.array([7, 7, 8, 7])
    drawn = draw_uniform(rows, 0 * rows, np.array([0, 1, 0, 0]), 5, seed=3)
    assert len({row.tobytes() for row in drawn[:3]}) == 3
    np.testing.assert_array_equal(drawn[0], drawn[3])


def test_what_means_nothing_is_named(numbered_shards: Manifest) -> None:
    for wrong in (0, -1):
        with pytest.raises(InputError, match=f"clips_per_video is {wrong}: give 1 or more"):
            planner_of(numbered_shards, clips_per_video=wrong)
    for spec in (stage_views.similarity(), stage_views.evaluation()):
        message = f"clips_per_video is 2, but the views {spec.name} always show the same place"
        with pytest.raises(InputError, match=message):
            planner_of(numbered_shards, spec, clips_per_video=2)
    whole = stage_views.finetune(stride=None, size_px=16)
    assert planner_of(numbered_shards, whole, clips_per_video=2).num_windows == 22
