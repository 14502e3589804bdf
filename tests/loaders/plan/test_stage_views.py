"""Presets have the published values, and wrong values are refused."""

import pytest

from loaders.plan import stage_views
from loaders.plan.stage_views import FINETUNE_AUGMENT, PRETRAIN_AUGMENT
from loaders.plan.views import Augment, ViewGroup, ViewSpec
from shards.errors import InputError


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (PRETRAIN_AUGMENT, (0.5, 0.25, 0.25, 0.3, 0.1, 0.175, 0.25, 0.75, 0.125, 1, 0.7)),
        (FINETUNE_AUGMENT, (0.4, 0.1, 0.125, 0.15, 0.05, 0.1, 0.15, 0.75, 0.0, 2, 0.4)),
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


def _group(**values: object) -> ViewGroup:
    given = {"name": "clip", "shape": (), "offsets": ((0, 1),), **values}
    return ViewGroup(**given)  # type: ignore[arg-type]


def _spec(*groups: ViewGroup, **values: object) -> ViewSpec:
    given = {"name": "a", "size_px": 16, "start": "centre", "window": 2, **values}
    return ViewSpec(groups=groups or (_group(),), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: stage_views.view_spec("pretraining"),
            "no views preset 'pretraining': choose one of",
        ),
        (lambda: stage_views.view_spec("pretrain", 4), "size_px is 4"),
        (lambda: stage_views.evaluation(num_crops=2), "crops is 2"),
        (lambda: stage_views.finetune(num_frames=0), "num_frames=0"),
        (lambda: stage_views.finetune(stride=0), "stride=0"),
        (lambda: stage_views.pretrain(num_slices=0), "shape is"),
        (lambda: stage_views.similarity(num_clips=0), "shape is"),
        (lambda: stage_views.evaluation(num_clips=0), "shape is"),
        (lambda: _spec(start="Random"), "start is 'Random': choose one of random, centre, even"),
        (lambda: _spec(start="even"), "start is 'even': give one group, and its shape"),
        (
            lambda: _spec(_group(shape=(1,)), _group(name="b", shape=(1,)), start="even"),
            "start is 'even': give one group",
        ),
        (lambda: _spec(_group(shape=(2,))), r"shape is \(2,\), and offsets has 1 views"),
        (lambda: _group(shape=(-1, -1)), "shape is"),
        (lambda: _group(offsets=((),)), r"rows of \[0\] frames"),
        (lambda: _group(shape=(2,), offsets=((0, 1), (0,))), r"rows of \[1, 2\] frames"),
        (lambda: _group(name="labels"), "the name is taken"),
        (lambda: _group(name="valid"), "the name is taken"),
        (lambda: _spec(_group(), _group()), "with different names"),
        (
            lambda: ViewSpec(name="a", groups=(), size_px=16, start="centre", window=2),
            "one or more",
        ),
        (lambda: _spec(_group(), _group(name="b", offsets=((0,),))), "differ in frames per view"),
        (lambda: _spec(window=1), "offsets run from 0 to 1, and window is 1"),
        (lambda: _spec(_group(offsets=((-1, 0),))), "offsets run from -1 to 0"),
        (lambda: _spec(crop_positions=3), "but group 'clip' has shape"),
        (
            lambda: _spec(_group(shape=(3, 1), offsets=((0, 1),) * 3), crop_positions=3),
            "end it with 3",
        ),
        (
            lambda: _spec(
                _group(shape=(3,), offsets=((0, 1),) * 3),
                crop_positions=3,
                augment=Augment(crop_scale=(0.5, 0.8)),
            ),
            r"crop_scale is \(0.5, 0.8\): give two equal bounds",
        ),
    ],
)
def test_wrong_views_are_named(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=reason):
        make()
