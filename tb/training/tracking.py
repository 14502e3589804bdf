"""Writes a run's rows to metrics.jsonl, and on request to TensorBoard and Weights & Biases.

Trackers are imported where they are used, because they are heavy.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shards.errors import InputError
from tb.config.sections import Config, Machine
from tb.training.metrics import METRICS, MetricsLog, MetricsRow

TENSORBOARD = "tensorboard"
Sink = Callable[[MetricsRow], None]


@dataclass(frozen=True)
class Tracker:
    """Takes a run's rows.

    Attributes:
        log: The run's metrics.jsonl.
        sinks: TensorBoard and Weights & Biases, if they are wanted.
        flushes: Functions that write out what a sink still holds in memory.
    """

    log: MetricsLog
    sinks: tuple[Sink, ...]
    flushes: tuple[Callable[[], object], ...] = ()

    def write(self, row: MetricsRow) -> None:
        """Writes a row everywhere."""
        self.log.write(row)
        for sink in self.sinks:
            sink(row)

    def sync(self) -> None:
        """Writes all rows to disk; call it before a checkpoint, where a resumed run starts."""
        self.log.sync()
        for flush in self.flushes:
            flush()


def check_installed(machine: Machine) -> None:
    """Raises InputError where a tracker that the settings name is not installed."""
    if machine.wandb is not None and find_spec("wandb") is None:
        raise InputError(
            f"machine.wandb is {machine.wandb!r}, but wandb is not installed: "
            "pip install 'timebalance[wandb]', or --set machine.wandb=null"
        )
    if machine.tensorboard and find_spec("tensorboard") is None:
        raise InputError(
            "tensorboard is not installed: pip install tensorboard, or "
            "--set machine.tensorboard=false"
        )


@contextmanager
def tracking(folder: Path, config: Config, *, first: int) -> Iterator[Tracker]:
    """Opens the trackers for the rows of a run from step `first` on; removes rows of later steps.

    Args:
        folder: The run's folder.
        config: `config.machine` says which trackers; they record all settings.
        first: 0, or the step at which a resumed run goes on.
    """
    machine = config.machine
    with ExitStack() as stack:
        log = stack.enter_context(MetricsLog(folder / METRICS, keep=first))
        sinks: list[Sink] = []
        flushes: list[Callable[[], object]] = []
        if machine.tensorboard:
            sink, flush = stack.enter_context(_tensorboard(folder / TENSORBOARD, first))
            sinks.append(sink)
            flushes.append(flush)
        if machine.wandb is not None:
            sinks.append(stack.enter_context(_wandb(folder, machine.wandb, config)))
        yield Tracker(log, tuple(sinks), tuple(flushes))


@contextmanager
def _tensorboard(folder: Path, first: int) -> Iterator[tuple[Sink, Callable[[], object]]]:
    from torch.utils.tensorboard import SummaryWriter

    # Readers then ignore what an earlier, killed process wrote from this step on.
    with SummaryWriter(str(folder), purge_step=first) as writer:  # type: ignore[no-untyped-call]

        def write(row: MetricsRow) -> None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, int(row["step"]))  # type: ignore[no-untyped-call]

        yield write, writer.flush


@contextmanager
def _wandb(folder: Path, project: str, config: Config) -> Iterator[Sink]:
    import wandb

    # A folder is one run, however often it is resumed.
    identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    options = {
        "project": project,
        "id": identity,
        "name": f"{folder.parent.name}/{folder.name}",
        "dir": str(folder),
        "resume": "allow",
        "config": config.model_dump(mode="json"),
    }
    try:
        run = wandb.init(**options)
    except wandb.Error:  # no network, or no login
        run = wandb.init(**options, mode="offline")
    # The steps of a resumed run go back, but the step counter of wandb must never do so.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    try:
        yield run.log
    finally:
        run.finish()
