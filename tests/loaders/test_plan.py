"""What a plan holds: ranges and probabilities of the method, and dependence on the video alone."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.plan import views
from loaders.plan.draw import Plan, draw_plan, hue_matrix, reflect, saturation_matrix
from loaders.plan.views import Augment, ViewSpec
from shards.errors import InputError

NUM_ROWS = 1500
HEIGHT, WIDTH = 240, 320


def _plan(spec: ViewSpec, rows: np.ndarray, *, num_frames: int = 150, seed: int = 1) -> Plan:
    return draw_plan(
        spec,
        rows=rows,
        epochs=np.full(len(rows), 3),
        num_frames=np.full(len(rows), num_frames),
        heights=np.full(len(rows), HEIGHT),
        widths=np.full(len(rows), WIDTH),
        seed=seed,
    )


def _many(augment: Augment) -> Plan:
    return _plan(views.pretrain(augment=augment), np.arange(NUM_ROWS))


def _slow_reflect(index: int, num_frames: int) -> int:
    position, step = 0, 1
    for _ in range(index):
        if num_frames == 1:
            break
        if not 0 <= position + step < num_frames:
            step = -step
        position += step
    return position


@given(counts=st.lists(st.integers(1, 400), min_size=1, max_size=4), num_frames=st.integers(1, 20))
def test_whole_video_views_take_one_frame_of_each_segment(
    counts: list[int], num_frames: int
) -> None:
    num = np.array(counts)
    same = {"rows": np.arange(len(num)), "epochs": np.zeros(len(num), np.int64), "seed": 0}
    sizes = {"num_frames": num, "heights": np.full_like(num, 64), "widths": np.full_like(num, 64)}
    specs = [
        views.finetune(num_frames=num_frames, stride=None, size_px=16),
        views.evaluation(num_frames=num_frames, stride=None, size_px=16, num_clips=3),
    ]
    for spec in specs:
        plan = draw_plan(spec, **same, **sizes)
        edges = np.arange(num_frames + 1) / num_frames * num[:, None, None]
        assert (plan.frames >= np.floor(edges[..., :-1])).all()
        assert (plan.frames < np.ceil(edges[..., 1:])).all()
        assert not plan.padded.any()


@given(st.integers(0, 300), st.integers(1, 40))
def test_reflect_walks_to_the_end_and_back(index: int, num_frames: int) -> None:
    assert reflect(np.array(index), np.array(num_frames)) == _slow_reflect(index, num_frames)


@given(
    rows=st.lists(st.integers(0, 10**7), min_size=1, max_size=6),
    epoch=st.integers(0, 2**40),
    seed=st.integers(0, 2**63 - 1),
    preset=st.sampled_from(sorted(views.PRESETS)),
    data=st.data(),
)
def test_a_row_depends_on_seed_epoch_and_video_only(
    rows: list[int], epoch: int, seed: int, preset: str, data: st.DataObject
) -> None:
    spec = views.view_spec(preset)

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
        if field.name != "size_px":
            one, many = getattr(alone, field.name), getattr(together, field.name)
            np.testing.assert_array_equal(one[0], many[place])


def test_seed_and_epoch_are_not_interchangeable() -> None:
    spec = views.pretrain()
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


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (views.PRETRAIN_AUGMENT, (0.5, 0.25, 0.25, 0.3, 0.1, 0.175, 0.25, 0.75, 0.125, 1, 0.7)),
        (views.FINETUNE_AUGMENT, (0.4, 0.1, 0.125, 0.15, 0.05, 0.1, 0.15, 0.75, 0.0, 2, 0.4)),
    ],
)
def test_presets_hold_the_published_values(preset: Augment, expected: tuple[float, ...]) -> None:
    crop, spread, contrast_p, color_p, hue, grey_p, gamma, gamma_p, drop_p, erases, erase_p = (
        expected
    )
    around_1 = (1 - spread, 1 + spread)
    assert preset == Augment(
        crop_scale=(crop, 1.0),
        contrast=around_1,
        contrast_p=contrast_p,
        brightness=around_1,
        saturation=around_1,
        hue=hue,
        color_p=color_p,
        grey_p=grey_p,
        gamma=(1 - gamma, 1 + gamma),
        gamma_p=gamma_p,
        drop_channel_p=drop_p,
        flip_p=0.5,
        num_erase=int(erases),
        erase_p=erase_p,
    )


def _assert_share(happened: np.ndarray, probability: float) -> None:
    sigma = np.sqrt(probability * (1 - probability) / happened.size)
    assert abs(happened.mean() - probability) < 5 * sigma


def _assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Within [low, high], and the empirical distribution is a straight line (Kolmogorov)."""
    values = np.sort(values.ravel())
    assert low - 1e-6 <= values[0] <= values[-1] <= high + 1e-6
    expected = (values - low) / (high - low)
    assert np.abs(expected - np.linspace(0, 1, len(values))).max() < 2.0 / np.sqrt(len(values))


PRETRAIN = views.PRETRAIN_AUGMENT


def test_contrast_pivots_on_mid_grey() -> None:
    plan = _many(Augment(contrast=PRETRAIN.contrast, contrast_p=PRETRAIN.contrast_p))
    factor = plan.color[..., 0, 0]
    _assert_share(factor != 1, 0.25)
    _assert_uniform(factor[factor != 1], 0.75, 1.25)
    grey = plan.color[..., :3] @ np.full(3, 0.5) + plan.color[..., 3]
    np.testing.assert_allclose(grey, 0.5, atol=1e-6)


def test_brightness_scales() -> None:
    plan = _many(Augment(brightness=PRETRAIN.brightness, color_p=PRETRAIN.color_p))
    factor = plan.color[..., 1, 1]
    _assert_share(factor != 1, 0.3)
    _assert_uniform(factor[factor != 1], 0.75, 1.25)
    np.testing.assert_allclose(plan.color[..., :3], factor[..., None, None] * np.eye(3), atol=1e-6)


def test_saturation_keeps_the_luma() -> None:
    plan = _many(Augment(saturation=PRETRAIN.saturation, color_p=PRETRAIN.color_p))
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(
        luma @ plan.color[..., :3], np.broadcast_to(luma, (NUM_ROWS, 10, 3)), atol=1e-6
    )
    factor = (np.trace(plan.color[..., :3], axis1=-2, axis2=-1) - 1) / 2
    changed = np.abs(factor - 1) > 1e-6
    _assert_share(changed, 0.3)
    _assert_uniform(factor[changed], 0.75, 1.25)


def test_hue_turns_the_colour_circle() -> None:
    plan = _many(Augment(hue=PRETRAIN.hue, color_p=PRETRAIN.color_p))
    matrix = plan.color[..., :3].astype(np.float64)
    # A rotation by a has trace 1 + 2 cos(a) in any basis.
    angle = np.arccos(np.clip((np.trace(matrix, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    changed = angle > 1e-3
    _assert_share(changed, 0.3)
    _assert_uniform(angle[changed] / (2 * np.pi), 0, 0.1)
    grey = np.full(3, 0.4)
    np.testing.assert_allclose(matrix @ grey, np.broadcast_to(grey, (NUM_ROWS, 10, 3)), atol=1e-3)


def test_greyscale_then_gamma() -> None:
    plan = _many(Augment(grey_p=0.175, gamma=(0.75, 1.25), gamma_p=0.75))
    grey = (plan.color[..., 0, :] == plan.color[..., 1, :]).all(axis=-1)
    _assert_share(grey, 0.175)
    np.testing.assert_allclose(plan.color[grey][0, 0, :3], [0.299, 0.587, 0.114], atol=1e-6)
    assert (plan.gamma[~grey] == 1).all()
    gamma = plan.gamma[grey]
    _assert_share(gamma != 1, 0.75)
    _assert_uniform(gamma[gamma != 1], 0.75, 1.25)


def test_one_channel_is_dropped() -> None:
    plan = _many(Augment(drop_channel_p=0.125))
    dropped = (plan.color == 0).all(axis=-1)
    assert set(np.unique(dropped.sum(axis=-1))) == {0, 1}
    for channel in range(3):
        _assert_share(dropped[..., channel], 0.125 / 3)


def test_flip() -> None:
    _assert_share(_many(Augment(flip_p=0.5)).flip, 0.5)


def test_crop_keeps_the_aspect_and_lies_anywhere_inside() -> None:
    plan = _many(Augment(crop_scale=(0.5, 1.0)))
    top, left, height, width = np.moveaxis(plan.crop, -1, 0)
    _assert_uniform(
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
    _assert_uniform(share[roomy], 0, 1)


@given(st.integers(8, 300), st.integers(0, views.MAX_ERASE))
def test_erased_rectangles_measure_a_sixth_to_a_third(size_px: int, num_erase: int) -> None:
    augment = Augment(num_erase=num_erase, erase_p=1.0)
    plan = _plan(views.pretrain(augment=augment, size_px=size_px), np.arange(20))
    assert plan.erase.shape == (20, 10, num_erase, 4)
    top, left, height, width = np.moveaxis(plan.erase, -1, 0)
    for first, extent in ((top, height), (left, width)):
        assert (extent * 6 >= size_px).all()
        assert (extent * 3 < size_px).all() or (extent == -(-size_px // 6)).all()
        assert (first >= 0).all()
        assert (first + extent <= size_px).all()


def test_erase_probability() -> None:
    plan = _many(Augment(num_erase=2, erase_p=0.4))
    for index in range(2):
        _assert_share(plan.erase[:, :, index, 2] > 0, 0.4)


def test_views_of_a_video_are_drawn_independently() -> None:
    plan = _many(PRETRAIN)
    scale = plan.crop[..., 2].astype(float)
    correlation = np.corrcoef(scale.T)
    assert np.abs(correlation[~np.eye(10, dtype=bool)]).max() < 5 / np.sqrt(NUM_ROWS)


def test_the_colour_map_is_the_composition_of_its_parts() -> None:
    """Each draw has a place of its own, so switching the others off does not change it."""
    nothing = Augment()
    names = {
        "contrast": ("contrast", "contrast_p"),
        "hue": ("hue", "color_p"),
        "saturation": ("saturation", "color_p"),
        "brightness": ("brightness", "color_p"),
        "grey": ("grey_p",),
        "drop": ("drop_channel_p",),
    }
    rgb = np.array([0.9, 0.3, 0.1])
    expected = np.broadcast_to(rgb, (NUM_ROWS, 10, 3))
    for fields in names.values():
        only = replace(nothing, **{field: getattr(PRETRAIN, field) for field in fields})
        part = _many(only).color.astype(np.float64)
        expected = np.einsum("bvck,bvk->bvc", part[..., :3], expected) + part[..., 3]
    whole = _many(PRETRAIN).color.astype(np.float64)
    np.testing.assert_allclose(whole[..., :3] @ rgb + whole[..., 3], expected, atol=1e-5)


def test_hue_and_saturation_against_their_definitions() -> None:
    np.testing.assert_allclose(hue_matrix(np.array(0.0)), np.eye(3), atol=1e-12)
    half = hue_matrix(np.array(0.5))
    np.testing.assert_allclose(half @ half, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(
        hue_matrix(np.array(0.1)) @ hue_matrix(np.array(0.2)), hue_matrix(np.array(0.3)), atol=1e-9
    )
    grey = saturation_matrix(np.array(0.0)) @ [1.0, 0.5, 0.2]
    np.testing.assert_allclose(grey, 0.299 + 0.587 * 0.5 + 0.114 * 0.2)


def test_the_pretraining_window() -> None:
    plan = _plan(views.pretrain(), np.arange(NUM_ROWS), num_frames=100)
    start = plan.frames[:, 0, 0]
    assert start.min() == 0
    assert start.max() == 36
    _assert_uniform((start + np.random.default_rng(0).random(NUM_ROWS)) / 37, 0, 1)
    window = np.arange(64)
    np.testing.assert_array_equal(plan.frames[:, 0], start[:, None] + window[::4])
    np.testing.assert_array_equal(plan.frames[:, 0], plan.frames[:, 1])
    for first in (2, 6):
        short = plan.frames[:, first : first + 4].reshape(NUM_ROWS, 64)
        np.testing.assert_array_equal(short, start[:, None] + window)
    assert not plan.padded.any()


def test_short_videos_are_reflected_and_said_to_be() -> None:
    plan = _plan(views.pretrain(), np.arange(3), num_frames=40)
    assert plan.padded.all()
    short = plan.frames[0, 2:6].ravel()
    np.testing.assert_array_equal(short, [*range(40), *range(38, 14, -1)])


def test_evaluation_clips_run_from_the_first_to_the_last_possible() -> None:
    plan = _plan(views.evaluation(num_crops=3), np.arange(2), num_frames=105)
    starts = plan.frames[0, :, 0].reshape(10, 3)
    np.testing.assert_array_equal(starts[:, 0], np.arange(10) * 10)
    assert (starts == starts[:, :1]).all()
    np.testing.assert_array_equal(plan.crop[0, :3, 1], [0, 32, 64])
    assert (plan.crop[0, :, 0] == 24).all()
    assert (plan.crop[0, :, 2:] == [192, 256]).all()
    assert (plan.color == np.eye(3, 4)).all()
    assert not plan.flip.any()


def test_the_weak_and_the_strong_view_show_the_same_frames() -> None:
    plan = _plan(views.weak_strong(), np.arange(NUM_ROWS))
    np.testing.assert_array_equal(plan.frames[:, 0], plan.frames[:, 1])
    weak, strong = plan.color[:, 0], plan.color[:, 1]
    assert (weak == np.eye(3, 4)).all()
    assert not (strong == np.eye(3, 4)).all(axis=(1, 2)).mean() > 0.3
    assert (plan.erase[:, 0, :, 2] == 0).all()
    _assert_share(plan.erase[:, 1, 0, 2] > 0, 0.7)
    assert plan.crop[:, 0, 2].min() >= 0.8 * HEIGHT
    assert plan.crop[:, 1, 2].min() < 0.55 * HEIGHT


def test_similarity_clips_are_consecutive_and_in_the_middle() -> None:
    plan = _plan(views.similarity(), np.arange(1), num_frames=100)
    np.testing.assert_array_equal(plan.frames[0].ravel(), np.arange(18, 82))
    assert (plan.crop[0] == [24, 32, 192, 256]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_p": 1.5},
        {"erase_p": -0.1},
        {"crop_scale": (0.9, 0.5)},
        {"crop_scale": (0.5, 1.5)},
        {"gamma": (0.0, 1.0)},
        {"hue": 0.7},
        {"num_erase": 5},
    ],
)
def test_wrong_augmentation_is_named(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        Augment(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: views.view_spec("pretraining"), "no views preset 'pretraining': choose one of"),
        (lambda: views.view_spec("pretrain", 4), "size_px is 4"),
        (lambda: views.evaluation(num_crops=2), "crops is 2"),
        (lambda: views.finetune(num_frames=0), "num_frames=0"),
    ],
)
def test_wrong_views_are_named(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=reason):
        make()
