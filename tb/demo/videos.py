"""The demo's videos: twelve classes, drawn frame by frame and encoded as real H.264 files.

Four classes differ in *appearance*, which is the same at every moment, so a temporally invariant
representation can tell them apart. The object drifts slowly in a random direction. What differs
depends on the world (`tb.demo.worlds`):

    ring, cross, stripes, checker       "objects": the object's shape or texture
    bars, shelves, spots, horizon       "places": the scene behind the plain disc

Eight classes show the same plain disc and differ only in *motion* or in the *order of events*, so
a temporally distinctive representation is needed:

    left, right                         the disc crosses the picture and comes in again
    clockwise, anticlockwise            the disc runs round in a circle
    grow, shrink                        the radius runs up (or down) and starts over
    pulse_then_hop, hop_then_pulse      two events and a pause, over and over

Phase, speed, size, position, colours, background texture, camera shake and length are random. The
two classes of a pair pass through the same states in opposite order, so a single frame does not
tell them apart. A cycle is longer than the 64-frame window of pretraining. Otherwise two clips of a
window could show the same state, but L_D asks a network to tell the clips apart. Some videos are
shorter than the window.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import av
import numpy as np

from shards.cpus import num_cpus
from shards.files.publish import unfinished_file
from tb.demo.motions import HEIGHT_PX, MOTIONS, WIDTH_PX, draw_path, drift
from tb.demo.scenes import Scene, draw_scene, draw_shadows
from tb.demo.worlds import OBJECTS, DemoWorld
from tb.workflow.children import child_pool

FPS = 25
NUM_FRAMES = (48, 120)
_SHAKE_PX, _MARGIN_PX = 4.0, 8
_MIN_CONTRAST = 65.0
_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
Masks = tuple[np.ndarray, np.ndarray]
"""Where the object is, and where it is marked with the second colour: two (H, W) bool."""


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """The number of videos of each class. "tiny" shows that everything runs, but learns nothing.

    Attributes:
        train: Training videos of a class.
        test: Test videos of a class.
    """

    train: int
    test: int

    @property
    def num_videos(self) -> int:
        """Videos of all classes and splits."""
        return (self.train + self.test) * len(OBJECTS.classes)  # each world has twelve


SIZES = {
    "tiny": DemoSize(train=4, test=2),
    "small": DemoSize(train=50, test=20),
    "medium": DemoSize(train=150, test=50),
}


def write_demo_videos(
    root: Path,
    *,
    size: DemoSize,
    seed: int,
    progress: Callable[[int, int], None],
    world: DemoWorld = OBJECTS,
) -> None:
    """Writes ROOT/{train,test}/CLASS/*.mp4, and keeps the files that exist.

    Args:
        root: The folder, made if missing.
        size: Videos of each class.
        seed: Seeds every draw; a video depends on (seed, split, class, number) alone.
        progress: Called with (videos done, videos in all).
        world: What the classes look like.
    """
    jobs = [
        (root / split / name / f"{name}_{split}{number:03d}.mp4", (seed, s, label, number))
        for s, (split, count) in enumerate((("train", size.train), ("test", size.test)))
        for label, name in enumerate(world.classes)
        for number in range(count)
    ]
    missing = [(path, world, key) for path, key in jobs if not path.exists()]
    done = len(jobs) - len(missing)
    progress(done, len(jobs))
    with child_pool(num_cpus()) as pool:
        for _ in pool.map(_write_video, *zip(*missing, strict=True), chunksize=8):
            done += 1
            progress(done, len(jobs))


def _write_video(path: Path, world: DemoWorld, key: tuple[int, int, int, int]) -> None:
    frames = draw_video(path.parent.name, np.random.default_rng(list(key)), world)
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_file(path) as unfinished:
        encode(unfinished, frames)
        unfinished.replace(path)


def encode(path: Path, frames: np.ndarray) -> None:
    """Writes (T, H, W, 3) uint8 RGB as H.264 in MP4; the same frames give the same bytes."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": "26"}
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def draw_video(name: str, rng: np.random.Generator, world: DemoWorld = OBJECTS) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB frames of one video of class `name`."""
    scene = world.choose_scene(name, rng)
    num_frames = int(rng.integers(NUM_FRAMES[0], NUM_FRAMES[1] + 1))
    background, ink, paper = _colors(rng, world.background)
    picture = _background(rng, background, scene)
    shake = np.clip(rng.normal(0, 0.3, (num_frames, 2)).cumsum(0), -_SHAKE_PX, _SHAKE_PX)
    path = draw_path(MOTIONS.get(name, drift), num_frames, rng)
    draw_object = _OBJECTS.get(name, _disc)
    radius = path.radius * (_OBJECT_SCALE if name in _OBJECTS else 1)
    tilt = rng.uniform(-0.4, 0.4)
    num_shadows = world.num_shadows if name in world.scene_of_class else 0
    shadows = draw_shadows(num_shadows, num_frames, HEIGHT_PX, WIDTH_PX, rng)
    frames = np.empty((num_frames, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    grid_y, grid_x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    for t in range(num_frames):
        dy = grid_y - path.y[t] - shake[t, 0]
        dx = grid_x - path.x[t] - shake[t, 1]
        u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / radius[t]
        v = (dy * np.cos(tilt) - dx * np.sin(tilt)) / radius[t]
        inside, marked = draw_object(u, v)
        y0, x0 = _MARGIN_PX + round(shake[t, 0]), _MARGIN_PX + round(shake[t, 1])
        frame = picture[y0 : y0 + HEIGHT_PX, x0 : x0 + WIDTH_PX] + shadows[t][..., None]
        frame[inside] = paper
        frame[inside & marked] = ink
        noise = rng.normal(0, 2, frame.shape[:2])
        frames[t] = np.clip(frame + noise[..., None], 0, 255)
    return frames


def _colors(
    rng: np.random.Generator, background_range: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A background and two object colours, (3,) in [0, 255], well apart in brightness.

    They differ in brightness and not only in hue, because augmentation changes hues and may remove
    colour.
    """
    while True:
        background, ink, paper = (
            rng.uniform(*background_range, 3),
            rng.uniform(0, 255, 3),
            rng.uniform(0, 255, 3),
        )
        luma = [color @ _LUMA for color in (background, ink, paper)]
        if min(abs(a - b) for a, b in combinations(luma, 2)) > _MIN_CONTRAST:
            return background, ink, paper


def _background(rng: np.random.Generator, color: np.ndarray, scene: Scene | None) -> np.ndarray:
    """A scene with a smooth random texture around `color`, and a margin for the camera's shake."""
    height, width = HEIGHT_PX + 2 * _MARGIN_PX, WIDTH_PX + 2 * _MARGIN_PX
    coarse = rng.normal(0, 8, (5, 6, 3))
    y = np.linspace(0, 3.999, height)
    x = np.linspace(0, 4.999, width)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    top = coarse[y0][:, x0] * (1 - fx) + coarse[y0][:, x0 + 1] * fx
    bottom = coarse[y0 + 1][:, x0] * (1 - fx) + coarse[y0 + 1][:, x0 + 1] * fx
    texture = top * (1 - fy) + bottom * fy
    picture = np.asarray(color + texture)
    return picture if scene is None else picture + draw_scene(scene, height, width, rng)[..., None]


def _ring(u: np.ndarray, v: np.ndarray) -> Masks:
    distance = np.hypot(u, v)
    return (distance < 1) & (distance > 0.55), distance < 0


def _cross(u: np.ndarray, v: np.ndarray) -> Masks:
    arms = (np.abs(u) < 0.3) | (np.abs(v) < 0.3)
    return arms & (np.maximum(np.abs(u), np.abs(v)) < 1), np.hypot(u, v) < 0


def _stripes(u: np.ndarray, v: np.ndarray) -> Masks:
    return np.hypot(u, v) < 1, np.floor(u * 1.4) % 2 == 0


def _checker(u: np.ndarray, v: np.ndarray) -> Masks:
    return np.hypot(u, v) < 1, (np.floor(u * 1.3) + np.floor(v * 1.3)) % 2 == 0


def _disc(u: np.ndarray, v: np.ndarray) -> Masks:
    distance = np.hypot(u, v)
    return distance < 1, distance < 0


# The object of a class, in coordinates in which its radius is 1; all other classes show the disc.
_OBJECTS: dict[str, Callable[[np.ndarray, np.ndarray], Masks]] = {
    "checker": _checker,
    "cross": _cross,
    "ring": _ring,
    "stripes": _stripes,
}
_OBJECT_SCALE = 1.4  # an object is so many times as large as the disc
