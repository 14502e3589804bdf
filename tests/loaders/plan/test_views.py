"""Wrong augmentations and views are refused by name."""

import pytest

from loaders.plan.views import Augment, ViewGroup, ViewSpec
from shards.errors import InputError


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
        (lambda: _spec(num_crops=3), "but group 'clip' has shape"),
        (
            lambda: _spec(_group(shape=(3, 1), offsets=((0, 1),) * 3), num_crops=3),
            "end it with 3",
        ),
        (
            lambda: _spec(
                _group(shape=(3,), offsets=((0, 1),) * 3),
                num_crops=3,
                augment=Augment(crop_scale=(0.5, 0.8)),
            ),
            r"crop_scale is \(0.5, 0.8\): give two equal bounds",
        ),
    ],
)
def test_wrong_views_are_named(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=reason):
        make()
