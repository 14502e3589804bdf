"""The backgrounds of the demo's videos: four kinds of scene, which go with four of the classes.

In real action sets an action has its usual places. So a scene says much about the class, but not
all. Here each of the four classes that differ in appearance has a scene of its own. `COUPLED_SHARE`
of its videos have this scene, and the others have one of the other three. A motion class may have
any of the four, so there the scene says nothing about the class.

A scene is a pattern of brightness. It survives the demo's augmentations, which turn hues by any
angle and change brightness, contrast and the crop.
"""

import numpy as np

SCENE_OF_CLASS = {
    "checker": "horizon",  # light above dark
    "cross": "bars",  # upright waves
    "ring": "shelves",  # level waves
    "stripes": "spots",  # a lattice of light and dark
}
SCENES = tuple(sorted(SCENE_OF_CLASS.values()))
COUPLED_SHARE = 0.8
_DEPTH = 40.0  # half the brightness between a scene's light and dark places, of 255


def choose_scene(class_name: str, rng: np.random.Generator) -> str:
    """A scene of `SCENES` for a video of this class."""
    own = SCENE_OF_CLASS.get(class_name)
    if own is None:
        return SCENES[rng.integers(len(SCENES))]
    if rng.uniform() < COUPLED_SHARE:
        return own
    others = [scene for scene in SCENES if scene != own]
    return others[rng.integers(len(others))]


def draw_scene(scene: str, height_px: int, width_px: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) what a scene of `SCENES` adds to a background, between -40 and 40 of 255.

    The positions of its parts are random, and the widths of waves too.
    """
    y = np.arange(height_px)[:, None]
    x = np.arange(width_px)[None, :]
    level = _wave(y, rng.uniform(14, 20), rng)
    upright = _wave(x, rng.uniform(20, 30), rng)
    edge_px = rng.uniform(0.35, 0.65) * height_px
    if scene == "bars":
        pattern = upright + 0 * y
    elif scene == "shelves":
        pattern = level + 0 * x
    elif scene == "spots":
        pattern = level * upright
    else:
        pattern = np.tanh((edge_px - y) / 4) + 0 * x
    return np.asarray(_DEPTH * pattern)


def _wave(places: np.ndarray, period_px: float, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.sin(2 * np.pi * (places / period_px + rng.uniform())))
