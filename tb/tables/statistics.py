"""The statistics of tables: intervals over seeds, and differences paired over videos and seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

MIN_SEEDS = 3
"""With fewer seeds nothing has an interval, because their spread is hardly known."""
_NUM_DRAWS = 2000
# Above so many degrees of freedom, Student's t is the normal distribution to three digits.
_MANY = 2000
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its 95 % confidence interval.

    Attributes:
        mean: The mean.
        half: Half the width of the interval; None for fewer than `MIN_SEEDS` seeds.
        num: The seeds.
    """

    mean: float
    half: float | None
    num: int

    def __str__(self) -> str:
        spread = "" if self.half is None else f" ± {self.half:.1f}"
        return f"{self.mean:.1f}{spread}"

    @property
    def signed(self) -> str:
        """The same, with the mean's sign."""
        return f"{'+' if self.mean >= 0 else ''}{self}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval (Student's t) of one value for each seed, at least one."""
    num, mean = len(values), float(np.mean(values))
    if num < MIN_SEEDS:
        return Estimate(mean=mean, half=None, num=num)
    error = float(np.std(values, ddof=1)) / math.sqrt(num)
    return Estimate(mean=mean, half=t_quantile(0.05, num - 1) * error, num=num)


def paired_difference(differences: np.ndarray, classes: np.ndarray) -> tuple[Estimate, float]:
    """The mean of differences that are paired over seeds and videos, and its p-value.

    The standard error is that of a bootstrap over seeds and videos. A draw picks whole seeds,
    and videos within their classes. All seeds get the same videos. A draw has one seed fewer than
    there are, and one video fewer of each class. The variance of the draws is then an unbiased
    estimate of the variance of the mean (Rao and Wu, JASA 1988). The interval is Student's t. Its
    degrees of freedom are Satterthwaite's, with the variance between videos taken as known. They
    are few where seeds differ much, because there are few seeds.

    Args:
        differences: (S, V) what one row has more than the other, for each seed and video.
        classes: (V,) the class of each video.

    Returns:
        The mean over all, with its interval, and the two-sided p-value of "the mean is 0". Fewer
        than `MIN_SEEDS` seeds have no interval, and the p-value 1.
    """
    num_seeds, mean = len(differences), float(differences.mean())
    if num_seeds < MIN_SEEDS:
        return Estimate(mean=mean, half=None, num=num_seeds), 1.0
    variance = float(_draws(differences, classes).var())
    between_seeds = float(differences.mean(axis=1).var(ddof=1)) / num_seeds
    if variance == 0:
        return Estimate(mean=mean, half=0.0, num=num_seeds), float(mean == 0)
    ratio = variance / between_seeds if between_seeds > 0 else math.inf
    freedom = (num_seeds - 1) * max(ratio, 1.0) ** 2
    error = math.sqrt(variance)
    half = t_quantile(0.05, freedom) * error
    return Estimate(mean=mean, half=half, num=num_seeds), t_tail(abs(mean) / error, freedom)


def _draws(differences: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(draws,) means of resampled seeds and videos; the same input gives the same draws."""
    rng = np.random.default_rng(0)
    num_seeds, num_videos = differences.shape
    seeds = _shares(rng, num_seeds)
    means = np.zeros(_NUM_DRAWS)
    for label in np.unique(classes):
        own = differences[:, classes == label]
        videos = _shares(rng, own.shape[1]) * (own.shape[1] / num_videos)
        means += ((seeds @ own) * videos).sum(axis=1)
    return means


def _shares(rng: np.random.Generator, num: int) -> np.ndarray:
    """(draws, num) the share of each of `num` things among num - 1 drawn ones (at least one)."""
    drawn = max(num - 1, 1)
    return rng.multinomial(drawn, np.full(num, 1 / num), size=_NUM_DRAWS) / drawn


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, which control the family-wise error rate.

    The chance that any true hypothesis of the family gets a value of at most p is at most p.

    Args:
        p_values: The p-values of the whole family, in any order.

    Returns:
        The corrected p-values, in the same order.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def t_tail(t: float, freedom: float) -> float:
    """P(|T| > t) of Student's t.

    With t = sqrt(freedom) tan(angle), the density of the angle is proportional to cos(angle) to the
    power of freedom - 1.

    Args:
        t: 0 or more.
        freedom: Degrees of freedom, 1 or more; need not be a whole number.
    """
    if freedom > _MANY:
        return math.erfc(t / math.sqrt(2))

    def area(first: float, last: float) -> float:
        angles = first + (last - first) * (_NODES + 1) / 2
        return float((last - first) * _NODE_WEIGHTS @ np.cos(angles) ** (freedom - 1))

    angle = math.atan(t / math.sqrt(freedom))
    return area(angle, math.pi / 2) / area(0.0, math.pi / 2)


@cache
def t_quantile(tail: float, freedom: float) -> float:
    """The t for which `t_tail` is `tail`, a number in (0, 1)."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > tail:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > tail else (low, middle)
    return (low + high) / 2
