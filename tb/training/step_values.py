"""The values of training steps. They stay on the device, and several steps are fetched at once.

Reading a value from a GPU makes the CPU wait for all the work before it. So the loop keeps the
scalars of its steps as tensors and fetches them together, in one transfer and, where several
processes train, one message.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from loaders import Batch
from tb.training.distributed import mean
from tb.training.metrics import MetricsRow
from tb.training.world import World

Terms = dict[str, Tensor]
"""Named scalars: "loss", whose gradient is taken, its terms ("L_..."), and others to be logged."""


@dataclass(kw_only=True)
class StepValues:
    """The values of one step: scalars on the device, and numbers that the CPU knows.

    Attributes:
        step: The number of the step, from 0.
        num_pieces: Pieces of its batch, which run one after the other.
        terms: The means of the loss's terms over the pieces.
        norm: The gradient's norm.
        rate: The learning rate.
        keys: The keys of its videos in this process.
        num_padded: Windows of this process that were extended by reflection.
        num_bad: Bad videos of this process.
        is_left_out: Whether nothing was updated, because a batch had no good video.
        wait_s: Seconds of waiting for batches.
        step_s: Seconds of the whole step.
        gpu_memory_mb: The peak of the GPU memory so far, MiB; None on a CPU.
    """

    step: int
    num_pieces: int
    terms: Terms = field(default_factory=dict)
    norm: Tensor = field(default_factory=lambda: torch.zeros(()))
    rate: float = 0.0
    keys: list[str] = field(default_factory=list)
    num_padded: int = 0
    num_bad: int = 0
    is_left_out: bool = False
    wait_s: float = 0.0
    step_s: float = 0.0
    gpu_memory_mb: float | None = None
    _began_s: float = field(default_factory=time.perf_counter)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for batches."""
        began_s = time.perf_counter()
        yield
        self.wait_s += time.perf_counter() - began_s

    def count(self, batches: tuple[Batch, ...]) -> None:
        """Takes the videos of one piece."""
        self.keys += [key for batch in batches for key in batch.keys]
        self.num_padded += int(sum(batch.plan.padded.sum() for batch in batches))
        self.num_bad += sum(len(batch.bad) for batch in batches)

    def add(self, terms: Terms) -> None:
        """Takes the terms of one piece."""
        for name, term in terms.items():
            share = term.detach().float() / self.num_pieces
            self.terms[name] = self.terms[name] + share if name in self.terms else share

    def leave_out(self) -> None:
        """Makes this a step that updates nothing and has no terms."""
        self.is_left_out = True
        self.terms.clear()

    def end(self, rate: float, norm: Tensor) -> None:
        """Takes the rate and the norm of the gradient, and stops the clock."""
        self.rate, self.norm = rate, norm
        if norm.is_cuda:
            self.gpu_memory_mb = torch.cuda.max_memory_allocated(norm.device) / 2**20
        self.step_s = time.perf_counter() - self._began_s


@dataclass(frozen=True, kw_only=True)
class FetchedStep:
    """A step's values as numbers.

    Attributes:
        step: The number of the step, from 0.
        terms: The loss's terms and "grad_norm", means over all processes; {} for a step that was
            left out.
        costs: The rate, the padded windows and videos/s of all processes, and the times and peak
            of GPU memory of this process.
        num_bad: Bad videos of all processes.
        keys: The keys of its videos in this process.
    """

    step: int
    terms: MetricsRow
    costs: MetricsRow
    num_bad: int
    keys: list[str]


def fetch(
    steps: Sequence[StepValues], stop_requested: bool, world: World
) -> tuple[list[FetchedStep], bool]:
    """Fetches the values of some steps; all processes call it after the same step.

    Args:
        steps: One or more, in their order.
        stop_requested: Whether this process was asked to stop.
        world: The processes.

    Returns:
        The steps, and whether any process was asked to stop.
    """
    began_s = time.perf_counter()
    device_values = torch.stack([value for x in steps for value in (*x.terms.values(), x.norm)])
    counts = [number for x in steps for number in (x.num_padded, x.num_bad)]
    known = torch.tensor([*counts, stop_requested]).to(device_values)
    numbers = mean(torch.cat([device_values, known])).tolist()
    # On a GPU the CPU runs ahead of its steps, and waits for them here.
    wait_s = (time.perf_counter() - began_s) / len(steps)
    values, totals = iter(numbers), iter(numbers[len(device_values) :])
    found = []
    for x in steps:
        num_padded, num_bad = (round(next(totals) * world.size) for _ in range(2))
        step_s = x.step_s + wait_s
        costs = {
            "lr": x.rate,
            "num_padded": num_padded,
            "data_wait_s": x.wait_s,
            "step_s": step_s,
            "videos_per_s": len(x.keys) * world.size / step_s,
        }
        terms = {name: next(values) for name in (*x.terms, "grad_norm")}
        if x.gpu_memory_mb is not None:
            costs["gpu_memory_mb"] = x.gpu_memory_mb
        found.append(
            FetchedStep(
                step=x.step,
                terms={} if x.is_left_out else terms,
                costs=costs,
                num_bad=num_bad,
                keys=x.keys,
            )
        )
    return found, numbers[-1] > 0
