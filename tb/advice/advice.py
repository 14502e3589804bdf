"""`Advice`: the measurements, and the candidate to take."""

import json
from dataclasses import dataclass
from math import inf, isfinite

from shards.errors import InputError
from tb.advice.measure import Measured, Measurements

BYTES_PER_GB = 1e9
# Candidates that take up to 5 % more than the fastest one count as equally fast.
_AS_FAST = 1.05
# Without a budget, speed is worth twice the space.
_WORTH_IT = 2


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a choice must keep to.

    Attributes:
        max_gb: The space for all shards, in GB of 10^9 bytes. None: twice what the smallest
            candidate with `min_psnr_db` needs.
        min_psnr_db: The least PSNR of the views, dB.

    Raises:
        InputError: A value is out of range.
    """

    max_gb: float | None
    min_psnr_db: float

    def __post_init__(self) -> None:
        if self.max_gb is not None and not 0 < self.max_gb < inf:
            raise InputError(f"max_gb is {self.max_gb:g} (--max-gb): give a number above 0")
        if not 0 < self.min_psnr_db < inf:
            raise InputError(f"min_psnr is {self.min_psnr_db:g} (--min-psnr): give dB, above 0")


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What was measured on some of a user's videos, and what follows from it.

    Attributes:
        views: The name of the views.
        size_px: Height and width of a view.
        num_videos: How many videos the whole set has, without refused ones (`Source.refusal`).
        source_bytes: The size of their files.
        found: The measurements.
        limits: What the choice must keep to.
    """

    views: str
    size_px: int
    num_videos: int
    source_bytes: int
    found: Measurements
    limits: Limits

    @property
    def space_bytes(self) -> float:
        """The space for all shards; without `max_gb`, twice what the smallest candidate takes.

        Raises:
            InputError: No candidate is close enough to the source.
        """
        if self.limits.max_gb is not None:
            return self.limits.max_gb * BYTES_PER_GB
        return _WORTH_IT * min(one.set_bytes for one in self._close())

    @property
    def choice(self) -> Measured:
        """The fastest candidate within the limits; of equally fast ones, the smallest.

        Raises:
            InputError: No candidate is within the limits.
        """
        close = self._close()
        fitting = [one for one in close if one.set_bytes <= self.space_bytes]
        if not fitting:
            smallest = min(close, key=lambda one: one.set_bytes)
            raise InputError(
                f"max_gb is {self.limits.max_gb:g} (--max-gb): the smallest candidate with"
                f" {self.limits.min_psnr_db:g} dB, {smallest.name}, needs"
                f" {smallest.set_bytes / BYTES_PER_GB:.3g} GB; give more space, or a lower"
                " --min-psnr"
            )
        fastest_ms = min(one.cpu_ms for one in fitting)
        as_fast = [one for one in fitting if one.cpu_ms <= fastest_ms * _AS_FAST]
        return min(as_fast, key=lambda one: one.set_bytes)

    def _close(self) -> list[Measured]:
        """The candidates whose views are close enough to the source."""
        least_db = self.limits.min_psnr_db
        close = [one for one in self.found.measured if one.psnr_db >= least_db]
        if not close:
            best = max(self.found.measured, key=lambda one: one.psnr_db)
            raise InputError(
                f"min_psnr is {least_db:g} dB (--min-psnr): the closest candidate, {best.name}, has"
                f" {best.psnr_db:.1f} dB; give less"
            )
        return close

    def to_json(self) -> str:
        """All of it as JSON text; "choice" is null if no candidate is within the limits."""
        try:
            choice: Measured | None = self.choice
        except InputError:
            choice = None
        content = {
            "views": self.views,
            "size_px": self.size_px,
            "num_videos": self.num_videos,
            "source_bytes": self.source_bytes,
            "num_tried": self.found.num_videos,
            "max_gb": self.limits.max_gb,
            "min_psnr_db": self.limits.min_psnr_db,
            "choice": choice and choice.name,
            "candidates": [_row(one) for one in self.found.measured],
            "left_out": self.found.left_out,
            "skipped": {entry.source: entry.reason for entry in self.found.skipped},
        }
        return json.dumps(content, indent=2) + "\n"


def _row(one: Measured) -> dict[str, object]:
    return {
        "name": one.name,
        "options": one.options,
        "bytes_per_video": one.bytes_per_video,
        "set_bytes": one.set_bytes,
        "videos_per_s": one.videos_per_s,
        "cpu_ms": one.cpu_ms,
        # JSON has no infinity.
        "psnr_db": one.psnr_db if isfinite(one.psnr_db) else None,
    }
