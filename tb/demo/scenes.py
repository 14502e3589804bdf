"""The backgrounds of the demo's videos: four kinds of scene, and light and shadow over them.

A scene is a pattern of brightness. It survives the demo's augmentations, which turn hues by any
angle and change brightness, contrast and the crop.
"""

from enum import StrEnum

import numpy as np

_DEPTH = 40.0  # how far the light places of a scene are above the mean, of 255
_SHADOW_DEPTH = 80.0  # the most that a patch of light or shadow adds or takes away, of 255


class Scene(StrEnum):
    """The kinds of scene."""

    BARS = "bars"
    HORIZON = "horizon"
    SHELVES = "shelves"
    SPOTS = "spots"


def draw_scene(scene: Scene, height_px: int, width_px: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) what a scene adds to a background, between -40 and 40 of 255.

    The positions of its parts are random, and the widths of waves too.

    Args:
        scene: BARS are upright waves, SHELVES are level waves, SPOTS are a lattice of light and
            dark, and HORIZON is light above dark.
        height_px: H.
        width_px: W.
        rng: What draws.
    """
    y = np.arange(height_px)[:, None]
    x = np.arange(width_px)[None, :]
    level = _wave(y, rng.uniform(14, 20), rng)
    upright = _wave(x, rng.uniform(20, 30), rng)
    edge_px = rng.uniform(0.35, 0.65) * height_px
    patterns = {
        Scene.BARS: upright + 0 * y,
        Scene.HORIZON: np.tanh((edge_px - y) / 4) + 0 * x,
        Scene.SHELVES: level + 0 * x,
        Scene.SPOTS: level * upright,
    }
    return np.asarray(_DEPTH * patterns[scene])


def _wave(places: np.ndarray, period_px: float, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * (places / period_px + rng.uniform())))


def draw_shadows(
    number: int, num_frames: int, height_px: int, width_px: int, rng: np.random.Generator
) -> np.ndarray:
    """(T, H, W) what patches of light or shadow add to a background, between -80 and 80 of 255.

    They wander over the picture. One that leaves it comes in again on the other side. Where two
    meet, the later one hides the earlier one.
    """
    added = np.zeros((num_frames, height_px, width_px))
    y, x = np.mgrid[:height_px, :width_px]
    for _ in range(number):
        radius = rng.uniform(8, 16)
        depth = _SHADOW_DEPTH * rng.uniform(0.6, 1) * rng.choice([-1, 1])
        heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.05, num_frames).cumsum()
        speed = rng.uniform(0.8, 2.0)
        centre_y = _around(rng.uniform(0, height_px) + speed * np.sin(heading).cumsum(), height_px)
        centre_x = _around(rng.uniform(0, width_px) + speed * np.cos(heading).cumsum(), width_px)
        distance = np.hypot(y - centre_y[:, None, None], x - centre_x[:, None, None]) / radius
        covered = np.clip((1.15 - distance) / 0.3, 0, 1)
        added = added * (1 - covered) + depth * covered
    return added


def _around(places: np.ndarray, size_px: int) -> np.ndarray:
    """Places that leave the picture by 20 pixels and then come in on the other side."""
    return np.asarray((places + 20) % (size_px + 40) - 20)
