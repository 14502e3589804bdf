"""The scenes of the demo's videos: how often they go with a class, and that they can be seen."""

import numpy as np
import pytest

from tb.demo.scenes import COUPLED_SHARE, SCENE_OF_CLASS, SCENES, choose_scene, draw_scene
from tb.demo.videos import APPEARANCE_CLASSES, CLASSES, draw_video

_NUM_DRAWS = 2000
_NOISE = 5 * np.sqrt(0.25 / _NUM_DRAWS)  # five standard errors of a share, or more


def shares(class_name: str) -> dict[str, float]:
    """How often each scene comes with a class, over videos of this class."""
    label = CLASSES.index(class_name)
    found = [
        choose_scene(class_name, np.random.default_rng([7, 0, label, number]))
        for number in range(_NUM_DRAWS)
    ]
    return {scene: found.count(scene) / _NUM_DRAWS for scene in SCENES}


@pytest.mark.parametrize("name", SCENE_OF_CLASS)
def test_a_class_has_its_scene_in_most_videos_and_any_other_in_the_rest(name: str) -> None:
    found = shares(name)
    assert found.pop(SCENE_OF_CLASS[name]) == pytest.approx(COUPLED_SHARE, abs=_NOISE)
    assert sum(found.values()) == pytest.approx(1 - COUPLED_SHARE, abs=_NOISE)
    assert max(found.values()) - min(found.values()) < _NOISE


@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(SCENE_OF_CLASS)))
def test_a_class_without_a_scene_has_each_of_them_equally_often(name: str) -> None:
    assert all(share == pytest.approx(1 / 4, abs=_NOISE) for share in shares(name).values())


def test_scenes_are_those_of_the_classes_and_no_two_classes_share_one() -> None:
    assert set(SCENE_OF_CLASS) == set(APPEARANCE_CLASSES)
    assert set(SCENE_OF_CLASS.values()) == set(SCENES)
    assert len(SCENES) == len(SCENE_OF_CLASS) == 4


def likeness(picture: np.ndarray, other: np.ndarray) -> float:
    """How alike the strengths of waves in two (H, W) pictures are, wherever these waves lie."""
    one, two = (np.abs(np.fft.rfft2(each - each.mean())) for each in (picture, other))
    return float((one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum()))


def test_a_scene_can_be_seen_in_a_frame() -> None:
    """The frame is most alike one of many examples of its own scene."""
    rng = np.random.default_rng(0)
    examples = [(scene, draw_scene(scene, 64, 96, rng)) for scene in SCENES for _ in range(30)]
    right = []
    for seed in range(40):
        frame = draw_video("clockwise", np.random.default_rng(seed))[0].mean(axis=-1)
        found = max(examples, key=lambda example: likeness(frame, example[1]))[0]
        right.append(found == choose_scene("clockwise", np.random.default_rng(seed)))
    assert np.mean(right) > 0.8
