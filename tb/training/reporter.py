"""Checks and logs the values of steps, and writes checkpoints."""

import logging
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shards.errors import InputError
from tb.config.sections import Config, Machine
from tb.progress import ProgressBar
from tb.training.bad_videos import BadList
from tb.training.distributed import barrier
from tb.training.metrics import MetricsRow
from tb.training.precision import Precision
from tb.training.preemption import EXIT_CODE, Preemption, preemption
from tb.training.run_state import RunState
from tb.training.step_values import FetchedStep, StepValues, fetch
from tb.training.tracking import Tracker, tracking
from tb.training.world import World

logger = logging.getLogger(__name__)

# Steps in a row that may overflow. Each halves the scale of float16 losses, which begins at 65536.
_MAX_OVERFLOWS = 20


class TrainingError(InputError):
    """Training cannot go on; the message names the step and the last good checkpoint."""


class Reporter:
    """Takes the steps of a run; `reporting` opens one.

    Values are fetched every `machine.log_steps` steps, and before everything that needs them: the
    end of an epoch whose loss is used, a checkpoint, the last step. At each fetch, several
    processes agree on whether to stop. A single process stops after the step in which it is asked
    to.
    """

    def __init__(
        self, run: RunState, machine: Machine, world: World, precision: Precision, stop: Preemption
    ) -> None:
        self._run, self._machine, self._world = run, machine, world
        self._precision, self._stop = precision, stop
        self._pending: list[StepValues] = []
        self.bad = BadList(run.path.parent, run.stage.all_loaders)
        self._num_overflows = 0
        self.tracker: Tracker | None = None
        self.bar: ProgressBar | None = None

    def take(self, values: StepValues) -> None:
        """Takes the values of the step that has just ended.

        Raises:
            TrainingError: The loss or the gradient of a step is not finite; nothing was saved.
            SystemExit: With code 143, after a request to stop and a checkpoint.
        """
        self._pending.append(values)
        self.bad.update()
        done = values.step + 1
        is_saved = done == self._run.stage.optim.steps or done % self._machine.checkpoint_steps == 0
        is_fetched = (
            is_saved
            or done % self._machine.log_steps == 0
            or self._run.needs_loss_after(values.step)
            or (self._world.size == 1 and self._stop.requested)
        )
        if not is_fetched:
            return
        steps, stopping = fetch(self._pending, self._stop.requested, self._world)
        self._pending.clear()
        for step in steps:
            self._report(step)
        self._show(done, steps[-1])
        if (is_saved or stopping) and self.tracker is not None:
            self.tracker.sync()
            self._run.save(done, self._machine.keep_last)
        if stopping:
            # The checkpoint comes first: a launcher kills the other processes once one has left.
            barrier()
            logger.info("%s: asked to stop; saved at step %d", self._run.stage.name, done)
            sys.exit(EXIT_CODE)

    def _show(self, done: int, last: FetchedStep) -> None:
        if self.bar is None:
            return
        notes = [f"loss {last.terms['loss']:.3f}"] if last.terms else ["step left out"]
        if len(self.bad):
            notes.append(f"bad videos: {len(self.bad)}")
        self.bar.update(done, ", ".join(notes))

    def _report(self, step: FetchedStep) -> None:
        overflowed = self._precision.scales_loss and not math.isfinite(
            step.terms.get("grad_norm", 0.0)
        )
        self._num_overflows = self._num_overflows + 1 if overflowed else 0
        checked = dict(step.terms)
        if 0 < self._num_overflows <= _MAX_OVERFLOWS:
            del checked["grad_norm"]
        _check_finite(checked, step, self._run.path)
        measured = self._run.observe(step.step, step.terms.get("loss"))
        _check_finite(measured, step, self._run.path)
        row: MetricsRow = {"step": step.step, **step.terms, **measured, **step.costs}
        if self._precision.scales_loss:
            row["overflowed"] = int(overflowed)
        if self._machine.may_skip:
            row["num_bad"] = step.num_bad
        if self.tracker is not None:
            self.tracker.write(row)


def _check_finite(values: MetricsRow, step: FetchedStep, path: Path) -> None:
    for name in ("loss", "grad_norm", "val_loss"):
        value = values.get(name, 0.0)
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} is {value} at step {step.step}; videos of the batch: "
                f"{', '.join(step.keys)}; last good checkpoint: {path}; begin another --out with a "
                "lower optim.lr of that stage, more warmup_steps, or clip_norm=1"
            )


@contextmanager
def reporting(
    run: RunState, config: Config, world: World, precision: Precision, first: int
) -> Iterator[Reporter]:
    """Opens the reporter of a run, with the log, the trackers and the progress bar.

    Args:
        run: The run.
        config: `config.machine` says where values go; the rest is kept with them.
        world: The processes; only rank 0 writes.
        precision: Under float16, some gradients may overflow.
        first: The step at which the run begins or goes on.
    """
    with ExitStack() as stack:
        reporter = Reporter(
            run, config.machine, world, precision, stack.enter_context(preemption())
        )
        stack.callback(reporter.bad.update)  # adds those that were met after the last `take`
        if world.is_main:
            reporter.tracker = stack.enter_context(tracking(run.path.parent, config, first=first))
            bar = ProgressBar(run.stage.name, run.stage.optim.steps)
            reporter.bar = stack.enter_context(bar)
        yield reporter
