"""The two worlds of the demo: what its classes look like, and which scenes go with them.

In real action sets an action has its usual places. So a scene says much about the class, but not
all. "objects", the default of `tb demo`, is such a world: each of four classes has an object of its
own, and in most of its videos a scene of its own. Both kinds of classes have scenes.

"places" is made for the paper's premise. Four classes differ in their scene alone. In each of their
videos the scene is there all the time, and light and shadow wander over it. The other eight classes
have a plain background and differ in their motion alone. So any frame tells which of the two kinds
a video is, and each teacher is made for one kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tb.demo.motions import MOTIONS
from tb.demo.scenes import Scene

MOTION_CLASSES = tuple(MOTIONS)
_SCENES = tuple(Scene)


@dataclass(frozen=True, kw_only=True)
class DemoWorld:
    """What differs between the worlds.

    Attributes:
        scene_of_class: The scene of each class that does not differ in motion.
        own_scene_share: The share of these classes' videos that have this scene; the others have
            one of the other three.
        motion_scenes: Whether a motion class has a scene, any of the four; otherwise it has none.
        num_shadows: How many patches of light or shadow wander over the scene of such a class.
        background: The lowest and the highest value of a background colour, of 255.
    """

    scene_of_class: Mapping[str, Scene]
    own_scene_share: float
    motion_scenes: bool
    num_shadows: int
    background: tuple[float, float]

    @property
    def classes(self) -> tuple[str, ...]:
        """All twelve classes, sorted; the index is the label."""
        return tuple(sorted((*self.scene_of_class, *MOTION_CLASSES)))

    def choose_scene(self, class_name: str, rng: np.random.Generator) -> Scene | None:
        """A scene for a video of this class; None for a plain background."""
        own = self.scene_of_class.get(class_name)
        if own is None:
            return _SCENES[rng.integers(len(_SCENES))] if self.motion_scenes else None
        if rng.uniform() < self.own_scene_share:
            return own
        others = [scene for scene in _SCENES if scene != own]
        return others[rng.integers(len(others))]


OBJECTS = DemoWorld(
    scene_of_class={
        "checker": Scene.HORIZON,
        "cross": Scene.BARS,
        "ring": Scene.SHELVES,
        "stripes": Scene.SPOTS,
    },
    own_scene_share=0.8,
    motion_scenes=True,
    num_shadows=0,
    background=(30, 225),
)
PLACES = DemoWorld(
    scene_of_class={scene.value: scene for scene in Scene},
    own_scene_share=1.0,
    motion_scenes=False,
    num_shadows=5,
    background=(100, 150),
)
WORLDS = {"objects": OBJECTS, "places": PLACES}
