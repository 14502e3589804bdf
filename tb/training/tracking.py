"""Where a run's rows go: metrics.jsonl always, TensorBoard by default, Weights & Biases if asked.

Everything heavy is imported where it is used.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shards.errors import InputError
from tb.config.settings import Config, Machine
from tb.training.metrics import METRICS, MetricsLog, Row

TENSORBOARD = "tensorboard"
Sink = Callable[[Row], None]


@dataclass(frozen=True)
class Tracker:
    """Takes a run's rows."""

    log: MetricsLog
    sinks: tuple[Sink, ...]

    def write(self, row: Row) -> None:
        """Hands a row to all."""
        self.log.write(row)
        for sink in self.sinks:
            sink(row)

    def sync(self) -> None:
        """Forces the log to disk: call before a checkpoint that counts on it."""
        self.log.sync()


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
    """Opens everything for the rows of a run from step `first` on; rows of later steps are undone.

    Args:
        folder: The run's.
        config: `config.machine` says where to; the rest is for the record.
        first: 0, or where a resumed run goes on.
    """
    machine = config.machine
    with ExitStack() as stack:
        log = stack.enter_context(MetricsLog(folder / METRICS, keep=first))
        sinks = []
        if machine.tensorboard:
            sinks.append(stack.enter_context(_tensorboard(folder / TENSORBOARD, first)))
        if machine.wandb is not None:
            sinks.append(stack.enter_context(_wandb(folder, machine.wandb, config)))
        yield Tracker(log, tuple(sinks))


@contextmanager
def _tensorboard(folder: Path, first: int) -> Iterator[Sink]:
    from torch.utils.tensorboard import SummaryWriter

    # A reader forgets what an earlier, killed process wrote from this step on.
    with SummaryWriter(str(folder), purge_step=first) as writer:  # type: ignore[no-untyped-call]

        def write(row: Row) -> None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, int(row["step"]))  # type: ignore[no-untyped-call]

        yield write


@contextmanager
def _wandb(folder: Path, project: str, config: Config) -> Iterator[Sink]:
    import wandb

    # One run a folder, however often it is resumed.
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
    except wandb.Error:  # no network, or nobody is logged in
        run = wandb.init(**options, mode="offline")
    # Steps of ours: its own may never go back, as a resumed run does.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    try:
        yield run.log
    finally:
        run.finish()
