"""The steps in their order, and the time of each. This module is quick to import."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Duration(IntEnum):
    """How long a check may take, in minutes. The long one measures more cells of each step."""

    SHORT = 8
    LONG = 25


@dataclass(frozen=True, kw_only=True)
class CheckStep:
    """A step, and its seconds in the short and in the long check.

    Time that a step leaves over goes to the later ones.

    Attributes:
        module: The module whose `cells` it measures.
        short_s: Its seconds in the short check.
        long_s: Its seconds in the long check.
        is_needed: Whether later steps need it, so that it may take their time.
        cell_limit_s: A cell that has not returned after so many seconds is stopped. In the long
            check a cell has twice as many.
    """

    module: str
    short_s: float
    long_s: float
    is_needed: bool = False
    cell_limit_s: float = 60.0

    def seconds(self, duration: Duration) -> float:
        """Its seconds in a check."""
        return self.short_s if duration is Duration.SHORT else self.long_s


STEPS = {
    "capabilities": CheckStep(
        module="bench.gpu_check.capabilities", short_s=15, long_s=20, is_needed=True
    ),
    "videos": CheckStep(  # a user's folder may be large
        module="bench.gpu_check.videos",
        short_s=25,
        long_s=40,
        is_needed=True,
        cell_limit_s=math.inf,
    ),
    "operators": CheckStep(module="bench.gpu_check.operators", short_s=35, long_s=45),
    "decoding": CheckStep(module="bench.gpu_check.decoding", short_s=75, long_s=200),
    "loaders": CheckStep(module="bench.gpu_check.loading", short_s=90, long_s=320),
    "training": CheckStep(  # it compiles
        module="bench.gpu_check.training", short_s=145, long_s=500, cell_limit_s=math.inf
    ),
    "parity": CheckStep(module="bench.gpu_check.parity", short_s=40, long_s=115),
    "tests": CheckStep(  # each test has a limit
        module="bench.gpu_check.test_runs", short_s=40, long_s=240, cell_limit_s=math.inf
    ),
}


def with_needed(names: Iterable[str]) -> list[str]:
    """These steps in their order, and the earlier ones that they need."""
    order, chosen = list(STEPS), set(names)
    last = max(map(order.index, chosen))
    return [name for name in order[: last + 1] if name in chosen or STEPS[name].is_needed]


# A step ends with its running cell, so the last step may end a little late.
SPARE_S = 15.0
NO_TIME = "left out: no time"
EXIT_START_AGAIN = 75
"""Exit code of a process that cannot use the GPU any more; a new process goes on with the step."""
