"""A plan has the ranges and probabilities of the method, and depends on the video alone."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loaders.plan import stage_views
from loaders.plan.draw import Plan, draw_plan
from loaders.plan.stage_views import PRETRAIN_AUGMENT
from loaders.plan.views import MAX_ERASE, Augment
from tests.loaders.plan.drawing import (
    HEIGHT,
    NUM_ROWS,
    WIDTH,
    assert_share,
    assert_uniform,
    draw,
    draw_many,
)


@given(
    rows=st.lists(st.integers(0, 10**7), min_size=1, max_size=6),
    epoch=st.integers(0, 2**40),
    seed=st.integers(0, 2**63 - 1),
    preset=st.sampled_from(sorted(stage_views.NAMED_VIEWS)),
    data=st.data(),
)
def test_a_row_depends_on_seed_epoch_and_video_only(
    rows: list[int], epoch: int, seed: int, preset: str, data: st.DataObject
) -> None:
    spec = stage_views.view_spec(preset)

    def plan(chosen: list[int]) -> Plan:
        array = np.array(chosen)
        return draw_plan(
            spec,
            rows=array,
            epochs=np.full(len(array), epoch),
            num_frames=array % 300 + 1,
            heights=array % 200 + 64,
            widths=array % 300 + 64,
            seed=seed,
        )

    place = data.draw(st.integers(0, len(rows) - 1))
    alone, together = plan([rows[place]]), plan(rows)
    for field in dataclasses.fields(Plan):
        one, many = getattr(alone, field.name), getattr(together, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one[0], many[place])


def test_seed_and_epoch_are_not_interchangeable() -> None:
    spec = stage_views.pretrain()
    draws = set()
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)]:
        row, size = np.array([7]), np.array([200])
        plan = draw_plan(
            spec,
            rows=row,
            epochs=np.array([epoch]),
            num_frames=size,
            heights=size,
            widths=size,
            seed=seed,
        )
        draws.add((plan.frames.tobytes(), plan.crop.tobytes()))
    assert len(draws) == 6


def test_flip() -> None:
    assert_share(draw_many(Augment(flip_p=0.5)).flip, 0.5)


def test_crop_keeps_the_aspect_and_lies_anywhere_inside() -> None:
    plan = draw_many(Augment(crop_scale=(0.5, 1.0)))
    top, left, height, width = np.moveaxis(plan.crop, -1, 0)
    assert_uniform(
        height / HEIGHT + np.random.default_rng(0).uniform(-0.5, 0.5, height.shape) / HEIGHT,
        0.5 - 0.5 / HEIGHT,
        1 + 0.5 / HEIGHT,
    )
    assert np.abs(width - height * WIDTH / HEIGHT).max() <= 1.2
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= HEIGHT).all()
    assert (left + width <= WIDTH).all()
    roomy = height < HEIGHT * 0.8
    share = (top + np.random.default_rng(0).random(top.shape)) / (HEIGHT - height + 1)
    assert_uniform(share[roomy], 0, 1)
    across = left / (WIDTH - width + 1)
    assert abs(np.corrcoef(share[roomy], across[roomy])[0, 1]) < 5 / np.sqrt(roomy.sum())


@given(st.integers(8, 300), st.integers(0, MAX_ERASE))
def test_erased_rectangles_measure_a_sixth_to_a_third(size_px: int, num_erase: int) -> None:
    augment = Augment(num_erase=num_erase, erase_p=1.0)
    plan = draw(stage_views.pretrain(augment=augment, size_px=size_px), np.arange(20))
    assert plan.erase.shape == (20, 10, num_erase, 4)
    top, left, height, width = np.moveaxis(plan.erase, -1, 0)
    for first, extent in ((top, height), (left, width)):
        assert (extent * 6 >= size_px).all()
        assert (extent * 3 < size_px).all() or (extent == -(-size_px // 6)).all()
        assert (first >= 0).all()
        assert (first + extent <= size_px).all()


def test_erase_probability() -> None:
    plan = draw_many(Augment(num_erase=2, erase_p=0.4))
    for index in range(2):
        assert_share(plan.erase[:, :, index, 2] > 0, 0.4)


def test_each_group_of_views_has_its_own_number_of_erased_rectangles() -> None:
    weak, strong = (Augment(num_erase=number, erase_p=1.0) for number in (1, 3))
    plan = draw(stage_views.weak_strong(weak=weak, strong=strong), np.arange(20))
    assert ((plan.erase[..., 2] > 0).sum(axis=-1) == [1, 3]).all()


def test_views_of_a_video_are_drawn_independently() -> None:
    plan = draw_many(PRETRAIN_AUGMENT)
    scale = plan.crop[..., 2].astype(float)
    correlation = np.corrcoef(scale.T)
    assert np.abs(correlation[~np.eye(10, dtype=bool)]).max() < 5 / np.sqrt(NUM_ROWS)
