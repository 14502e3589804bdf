"""The worlds: how often a scene goes with a class, and what each kind of class shows."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tb.demo.demo import demo_shards
from tb.demo.scenes import Scene, draw_scene, draw_shadows
from tb.demo.videos import draw_video
from tb.demo.worlds import MOTION_CLASSES, OBJECTS, PLACES, WORLDS, DemoWorld

_NUM_DRAWS = 2000
_NOISE = 5 * np.sqrt(0.25 / _NUM_DRAWS)  # five standard errors of a share, or more
_HEIGHT_PX, _WIDTH_PX = 64, 96


def shares(class_name: str, world: DemoWorld = OBJECTS) -> dict[Scene | None, float]:
    """How often each scene comes with a class, over videos of this class."""
    label = world.classes.index(class_name)
    found = [
        world.choose_scene(class_name, np.random.default_rng([7, 0, label, number]))
        for number in range(_NUM_DRAWS)
    ]
    return {scene: found.count(scene) / _NUM_DRAWS for scene in (*Scene, None)}


@pytest.mark.parametrize("name", OBJECTS.scene_of_class)
def test_a_class_has_its_scene_in_most_videos_and_any_other_in_the_rest(name: str) -> None:
    found = shares(name)
    own_share = OBJECTS.own_scene_share
    assert found.pop(None) == 0
    assert found.pop(OBJECTS.scene_of_class[name]) == pytest.approx(own_share, abs=_NOISE)
    assert sum(found.values()) == pytest.approx(1 - own_share, abs=_NOISE)
    assert max(found.values()) - min(found.values()) < _NOISE


@pytest.mark.parametrize("name", MOTION_CLASSES)
def test_a_motion_class_has_each_scene_equally_often_or_none(name: str) -> None:
    found = shares(name)
    assert found.pop(None) == 0
    assert all(share == pytest.approx(1 / 4, abs=_NOISE) for share in found.values())
    assert shares(name, PLACES)[None] == 1


@pytest.mark.parametrize("name", Scene)
def test_a_place_always_has_its_scene(name: str) -> None:
    assert shares(name, PLACES)[name] == 1


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_each_world_has_twelve_classes_and_no_two_share_a_scene(world: DemoWorld) -> None:
    assert len(world.classes) == 12
    assert set(world.classes) == set(MOTION_CLASSES) | set(world.scene_of_class)
    assert sorted(world.scene_of_class.values()) == sorted(Scene)


def waves(picture: np.ndarray) -> np.ndarray:
    """The strengths of the waves in an (H, W) picture, wherever these waves lie; of length 1."""
    strengths = np.abs(np.fft.rfft2(picture - picture.mean()))
    return strengths / np.linalg.norm(strengths)


def seen_scenes(
    class_name: str, world: DemoWorld, num_frames: int | None
) -> list[tuple[Scene, Scene | None]]:
    """(the scene that a video's first frames are most alike, the scene that it has), of 20."""
    rng = np.random.default_rng(0)
    examples = [
        (scene, waves(draw_scene(scene, _HEIGHT_PX, _WIDTH_PX, rng)))
        for scene in Scene
        for _ in range(30)
    ]
    found = []
    for seed in range(20):
        frames = draw_video(class_name, np.random.default_rng(seed), world)[:num_frames]
        picture = waves(frames.mean(axis=(0, 3)))
        seen = max(examples, key=lambda example: float((picture * example[1]).sum()))[0]
        found.append((seen, world.choose_scene(class_name, np.random.default_rng(seed))))
    return found


@pytest.mark.parametrize(
    ("name", "world", "num_frames", "share"),
    [("clockwise", OBJECTS, 1, 0.8), *((scene, PLACES, None, 0.6) for scene in Scene)],
)
def test_a_scene_can_be_seen(
    name: str, world: DemoWorld, num_frames: int | None, share: float
) -> None:
    """In one frame, and behind light and shadow in the mean of all frames; chance is 0.25."""
    assert np.mean([seen == scene for seen, scene in seen_scenes(name, world, num_frames)]) > share


def test_a_place_differs_in_its_scene_alone() -> None:
    """Without scenes, the same draws give the same video in all four places."""
    blank = {}
    for name in Scene:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tb.demo.scenes._DEPTH", 0.0)
            blank[name] = draw_video(name, np.random.default_rng(5), PLACES)
        assert not np.array_equal(draw_video(name, np.random.default_rng(5), PLACES), blank[name])
        assert np.array_equal(blank[name], blank["bars"])


def test_shadows_wander_and_stay_within_their_depth() -> None:
    shadows = draw_shadows(5, 60, _HEIGHT_PX, _WIDTH_PX, np.random.default_rng(1))
    assert shadows.shape == (60, _HEIGHT_PX, _WIDTH_PX)
    assert 40 < np.abs(shadows).max() <= 80
    assert all(np.abs(later - earlier).max() > 5 for earlier, later in pairwise(shadows))
    # They come in again: few places are never covered, and none is covered all the time.
    covered = (np.abs(shadows) > 1).mean(axis=0)
    assert (covered > 0).mean() > 0.5
    assert covered.max() < 1
    assert not draw_shadows(0, 3, 4, 5, np.random.default_rng(1)).any()


def test_a_motion_class_has_a_plain_background_in_places() -> None:
    """Its pictures differ from their own median by the disc and the camera's noise alone."""
    frames = draw_video("left", np.random.default_rng(5), PLACES).astype(float).mean(axis=-1)
    corners = frames[:, :8, :8]  # the disc crosses at mid-height
    assert np.ptp(np.median(corners, axis=(1, 2))) < 12
    shadowed = draw_video("bars", np.random.default_rng(5), PLACES).astype(float).mean(axis=-1)
    assert np.ptp(np.median(shadowed[:, :8, :8], axis=(1, 2))) > 24


def test_the_demo_of_places_has_their_classes(tmp_path: Path) -> None:
    manifest = demo_shards(tmp_path / "places", size="tiny", seed=0, world="places")
    assert manifest.classes == PLACES.classes
    assert len(manifest.keys) == 72
