"""Presets have the published values, and wrong values are refused."""

import pytest

from loaders.plan import stage_views
from loaders.plan.stage_views import FINETUNE_AUGMENT, PRETRAIN_AUGMENT
from loaders.plan.views import Augment
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
    ("make", "reason"),
    [
        (
            lambda: stage_views.view_spec("pretraining"),
            "no views 'pretraining': choose one of",
        ),
        (lambda: stage_views.view_spec("pretrain", 4), "size_px is 4"),
        (lambda: stage_views.evaluation(num_crops=2), "num_crops is 2"),
        (lambda: stage_views.finetune(num_frames=0), "num_frames=0"),
        (lambda: stage_views.finetune(stride=0), "stride=0"),
        (lambda: stage_views.pretrain(num_slices=0), "shape is"),
        (lambda: stage_views.similarity(num_clips=0), "shape is"),
        (lambda: stage_views.evaluation(num_clips=0), "shape is"),
    ],
)
def test_wrong_options_are_named(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=reason):
        make()
