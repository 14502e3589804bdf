"""How the object of a demo video moves: the motion classes, and the drift of all others."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

HEIGHT_PX, WIDTH_PX = 64, 96


@dataclass(frozen=True, kw_only=True)
class Path:
    """Where the object is in each of T frames.

    Attributes:
        y: (T,) its centre, in pixels from the top.
        x: (T,) its centre, in pixels from the left.
        radius: (T,) pixels.
        cycles: (T,) cycles of the motion since a moment before the first frame.
    """

    y: np.ndarray
    x: np.ndarray
    radius: np.ndarray
    cycles: np.ndarray

    @property
    def phase(self) -> np.ndarray:
        """(T,) the part of a cycle that is over, in [0, 1)."""
        return np.asarray(self.cycles % 1.0)


Motion = Callable[[Path, np.random.Generator], Path]


def draw_path(move: Motion, num_frames: int, rng: np.random.Generator) -> Path:
    """A path of that motion; place, size and speed are random."""
    time = np.arange(num_frames)
    radius = np.full(num_frames, rng.uniform(14, 18))
    y = np.full(num_frames, rng.uniform(0.4, 0.6) * HEIGHT_PX)
    x = np.full(num_frames, rng.uniform(0.35, 0.65) * WIDTH_PX)
    cycles = time / rng.uniform(80, 112) + rng.uniform()
    return move(Path(y=y, x=x, radius=radius, cycles=cycles), rng)


def drift(path: Path, rng: np.random.Generator) -> Path:
    """A slow drift in any direction, which says nothing about the class."""
    heading = rng.uniform(0, 2 * np.pi)
    way = (np.arange(len(path.y)) - len(path.y) / 2) * rng.uniform(0.05, 0.25)
    return replace(path, y=path.y + way * np.sin(heading), x=path.x + way * np.cos(heading))


def _right(path: Path, _: np.random.Generator) -> Path:
    return _crossing(path, path.phase)


def _left(path: Path, _: np.random.Generator) -> Path:
    return _crossing(path, 1 - path.phase)


def _crossing(path: Path, share: np.ndarray) -> Path:
    """A path from the left edge of the picture (share 0) to the right edge (share 1)."""
    span = WIDTH_PX + 2 * path.radius[0]
    return replace(path, x=share * span - path.radius[0])


def _clockwise(path: Path, rng: np.random.Generator) -> Path:
    # y points down: a growing angle runs clockwise on the screen.
    return _circling(path, 2 * np.pi * path.cycles, rng)


def _anticlockwise(path: Path, rng: np.random.Generator) -> Path:
    return _circling(path, -2 * np.pi * path.cycles, rng)


def _circling(path: Path, angle: np.ndarray, rng: np.random.Generator) -> Path:
    reach = rng.uniform(16, 20)
    return replace(
        path,
        y=HEIGHT_PX / 2 + reach * np.sin(angle),
        x=WIDTH_PX / 2 + reach * np.cos(angle),
        radius=path.radius * 0.75,
    )


def _grow(path: Path, _: np.random.Generator) -> Path:
    return replace(path, radius=6 + 26 * path.phase)


def _shrink(path: Path, _: np.random.Generator) -> Path:
    return replace(path, radius=6 + 26 * (1 - path.phase))


def _pulse_then_hop(path: Path, _: np.random.Generator) -> Path:
    return _events(path, pulse=_bump(path.phase, 0.0), hop=_bump(path.phase, 1 / 3))


def _hop_then_pulse(path: Path, _: np.random.Generator) -> Path:
    return _events(path, pulse=_bump(path.phase, 1 / 3), hop=_bump(path.phase, 0.0))


def _events(path: Path, pulse: np.ndarray, hop: np.ndarray) -> Path:
    return replace(path, y=0.65 * HEIGHT_PX - 28 * hop, radius=path.radius * (0.7 + 0.9 * pulse))


def _bump(phase: np.ndarray, start: float) -> np.ndarray:
    """A smooth event of a third of the cycle: 0 -> 1 -> 0."""
    share = np.clip((phase - start) * 3, 0, 1)
    return np.asarray(np.sin(np.pi * share))


MOTIONS: dict[str, Motion] = {
    "anticlockwise": _anticlockwise,
    "clockwise": _clockwise,
    "grow": _grow,
    "hop_then_pulse": _hop_then_pulse,
    "left": _left,
    "pulse_then_hop": _pulse_then_hop,
    "right": _right,
    "shrink": _shrink,
}
"""The motion classes."""
