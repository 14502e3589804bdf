"""Draws plans of many videos, and checks the distribution of their draws."""

import numpy as np

from loaders.plan import stage_views
from loaders.plan.draw import Plan, draw_plan
from loaders.plan.views import Augment, ViewSpec

NUM_ROWS = 1500


HEIGHT, WIDTH = 240, 320


def draw(
    spec: ViewSpec,
    rows: np.ndarray,
    *,
    num_frames: int = 150,
    seed: int = 1,
    clips: np.ndarray | None = None,
) -> Plan:
    return draw_plan(
        spec,
        rows=rows,
        epochs=np.full(len(rows), 3),
        num_frames=np.full(len(rows), num_frames),
        heights=np.full(len(rows), HEIGHT),
        widths=np.full(len(rows), WIDTH),
        seed=seed,
        clips=clips,
    )


def draw_many(augment: Augment) -> Plan:
    return draw(stage_views.pretrain(augment=augment), np.arange(NUM_ROWS))


def assert_share(happened: np.ndarray, probability: float) -> None:
    sigma = np.sqrt(probability * (1 - probability) / happened.size)
    assert abs(happened.mean() - probability) < 5 * sigma


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Checks that values lie in [low, high] and are uniform there (Kolmogorov's test)."""
    values = np.sort(values.ravel())
    assert low - 1e-6 <= values[0] <= values[-1] <= high + 1e-6
    expected = (values - low) / (high - low)
    assert np.abs(expected - np.linspace(0, 1, len(values))).max() < 2.0 / np.sqrt(len(values))
