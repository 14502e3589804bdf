"""The colour map of a plan, operation by operation."""

from dataclasses import replace

import numpy as np

from loaders.plan.color import hue_matrix, saturation_matrix
from loaders.plan.stage_views import PRETRAIN_AUGMENT
from loaders.plan.views import Augment
from tests.loaders.plan.drawing import (
    NUM_ROWS,
    assert_share,
    assert_uniform,
    draw_many,
)


def test_contrast_pivots_on_mid_grey() -> None:
    plan = draw_many(
        Augment(contrast=PRETRAIN_AUGMENT.contrast, contrast_p=PRETRAIN_AUGMENT.contrast_p)
    )
    factor = plan.color[..., 0, 0]
    assert_share(factor != 1, 0.25)
    assert_uniform(factor[factor != 1], 0.75, 1.25)
    grey = plan.color[..., :3] @ np.full(3, 0.5) + plan.color[..., 3]
    np.testing.assert_allclose(grey, 0.5, atol=1e-6)


def test_brightness_scales() -> None:
    plan = draw_many(
        Augment(brightness=PRETRAIN_AUGMENT.brightness, color_p=PRETRAIN_AUGMENT.color_p)
    )
    factor = plan.color[..., 1, 1]
    assert_share(factor != 1, 0.3)
    assert_uniform(factor[factor != 1], 0.75, 1.25)
    np.testing.assert_allclose(plan.color[..., :3], factor[..., None, None] * np.eye(3), atol=1e-6)


def test_saturation_keeps_the_luma() -> None:
    plan = draw_many(
        Augment(saturation=PRETRAIN_AUGMENT.saturation, color_p=PRETRAIN_AUGMENT.color_p)
    )
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(
        luma @ plan.color[..., :3], np.broadcast_to(luma, (NUM_ROWS, 10, 3)), atol=1e-6
    )
    factor = (np.trace(plan.color[..., :3], axis1=-2, axis2=-1) - 1) / 2
    changed = np.abs(factor - 1) > 1e-6
    assert_share(changed, 0.3)
    assert_uniform(factor[changed], 0.75, 1.25)


def test_hue_turns_the_colour_circle() -> None:
    plan = draw_many(Augment(hue=PRETRAIN_AUGMENT.hue, color_p=PRETRAIN_AUGMENT.color_p))
    matrix = plan.color[..., :3].astype(np.float64)
    # A rotation by a has trace 1 + 2 cos(a) in any basis.
    angle = np.arccos(np.clip((np.trace(matrix, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    changed = angle > 1e-3
    assert_share(changed, 0.3)
    assert_uniform(angle[changed] / (2 * np.pi), 0, 0.1)
    grey = np.full(3, 0.4)
    np.testing.assert_allclose(matrix @ grey, np.broadcast_to(grey, (NUM_ROWS, 10, 3)), atol=1e-3)


def test_greyscale_then_gamma() -> None:
    plan = draw_many(Augment(grey_p=0.175, gamma=(0.75, 1.25), gamma_p=0.75))
    grey = (plan.color[..., 0, :] == plan.color[..., 1, :]).all(axis=-1)
    assert_share(grey, 0.175)
    np.testing.assert_allclose(plan.color[grey][0, 0, :3], [0.299, 0.587, 0.114], atol=1e-6)
    assert (plan.gamma[~grey] == 1).all()
    gamma = plan.gamma[grey]
    assert_share(gamma != 1, 0.75)
    assert_uniform(gamma[gamma != 1], 0.75, 1.25)


def test_one_channel_is_dropped() -> None:
    plan = draw_many(Augment(drop_channel_p=0.125))
    dropped = (plan.color == 0).all(axis=-1)
    assert set(np.unique(dropped.sum(axis=-1))) == {0, 1}
    for channel in range(3):
        assert_share(dropped[..., channel], 0.125 / 3)


def test_the_colour_map_is_the_composition_of_its_parts() -> None:
    """Each draw has a fixed place, so switching the others off does not change it."""
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
        only = replace(nothing, **{field: getattr(PRETRAIN_AUGMENT, field) for field in fields})
        part = draw_many(only).color.astype(np.float64)
        expected = np.einsum("bvck,bvk->bvc", part[..., :3], expected) + part[..., 3]
    whole = draw_many(PRETRAIN_AUGMENT).color.astype(np.float64)
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
