"""The steps in their order, and the time that each gets. It imports nothing that is slow."""

from dataclasses import dataclass
from enum import IntEnum


class Plan(IntEnum):
    """The plans, by their minutes. The long one measures more cells of each step."""

    SHORT = 8
    LONG = 25


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step, and its seconds in both plans. Time that a step leaves over goes to the later ones.

    Attributes:
        module: The module whose `cells` it measures.
        short_s: Its seconds in the short plan.
        long_s: Its seconds in the long plan.
        is_needed: Whether later steps need it, so that it may take their time.
    """

    module: str
    short_s: float
    long_s: float
    is_needed: bool = False

    def seconds(self, plan: Plan) -> float:
        """Its seconds in a plan."""
        return self.short_s if plan is Plan.SHORT else self.long_s


STEPS = {
    "capabilities": Step(
        module="bench.gpu_check.capabilities", short_s=15, long_s=20, is_needed=True
    ),
    "videos": Step(module="bench.gpu_check.videos", short_s=25, long_s=40, is_needed=True),
    "operators": Step(module="bench.gpu_check.operators", short_s=30, long_s=45),
    "decoding": Step(module="bench.gpu_check.decoding", short_s=75, long_s=200),
    "loaders": Step(module="bench.gpu_check.loading", short_s=80, long_s=320),
    "training": Step(module="bench.gpu_check.training", short_s=150, long_s=500),
    "parity": Step(module="bench.gpu_check.parity", short_s=40, long_s=115),
    "tests": Step(module="bench.gpu_check.test_runs", short_s=50, long_s=240),
}
# A step ends when its running cell does, and the last one may be stopped a little late.
SPARE_S = 15.0
NO_TIME = "left out: no time"
EXIT_START_AGAIN = 75
"""A step's exit code where the GPU is not usable any more in its process; another one goes on."""
