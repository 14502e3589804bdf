"""The training loop: one for every stage.

Each stage has one function for a whole step, from batches to new weights (`stage.step`, in
`tb.method`). It uses `tb.training.step`.

The number of a step is the whole position of a run: the loaders' streams, the learning rate and the
log are functions of it. A checkpoint adds the weights, the optimizer, the memory of the schedule
and the random state. So on a CPU, in one process, a run that was killed resumes bit for bit. With
several processes it does not, because a checkpoint has only rank 0's batch-norm statistics.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from shards.errors import InputError
from shards.files.lock import locked
from shards.files.publish import publish_bytes
from tb.config.load_config import CONFIG, dump_yaml, remember_config
from tb.config.sections import Config
from tb.config.work_data import remember_data
from tb.named_paths import make_named_folder
from tb.training.distributed import barrier, join, mean, share_weights
from tb.training.engine_record import pixels_from, write_engine
from tb.training.optimizer import Optimizer
from tb.training.precision import Precision, precision_of
from tb.training.preparation import begin_step, compile_backbones, compile_mode, prepare
from tb.training.reporter import TrainingError, reporting
from tb.training.run_state import RunState
from tb.training.schedule import Schedule
from tb.training.stage import Stage
from tb.training.step import Step
from tb.training.step_values import StepValues
from tb.training.tracking import check_installed
from tb.training.world import World
from tb.weights.checkpoint import CHECKPOINT

logger = logging.getLogger(__name__)


def train(stage: Stage, work: Path, config: Config, *, remember: bool = True) -> Path:
    """Trains a stage to its last step, from its last checkpoint where there is one.

    Closes the stage's loaders afterwards.

    Args:
        stage: What to train.
        work: The work folder; the run lives in WORK/STAGE.
        config: All settings. `config.machine` says how to run; the others are kept with the run.
        remember: Make these settings the work folder's.

    Returns:
        The final checkpoint.

    Raises:
        InputError: WORK/STAGE holds a run with other settings, or another process trains there.
        TrainingError: The loss or the gradient is not finite, or memory ran out.
        SystemExit: With code 143, after SIGTERM and a checkpoint.
    """
    with ExitStack() as stack:
        stack.enter_context(closing(stage))
        check_installed(config.machine)
        folder, world = work / stage.name, join()
        make_named_folder(folder, "out")
        if world.is_main:
            complaint = f"{folder}: another process trains there"
            # The child of a killed process needs a moment to notice that.
            stack.enter_context(locked(folder / ".lock", complaint, patience_s=5))
        return _train(stage, folder, config, world, remember)


def _train(stage: Stage, folder: Path, config: Config, world: World, remember: bool) -> Path:
    machine, path, steps = config.machine, folder / CHECKPOINT, stage.optim.steps
    machine.limit_threads()
    precision = precision_of(machine, stage.device)
    compiled = compile_mode(machine, stage)
    # The outcome of "auto" belongs to the settings: a run that began in bfloat16 must not go on in
    # float32 unnoticed.
    engine = stage.engine or stage.loaders[0].choice
    how = {
        "engine": pixels_from(engine.name, engine.views),
        "amp": precision.value,
        "compile": compiled,
        "sync_bn": machine.sync_bn,
    }
    stage = replace(stage, settings={**stage.settings, **how})
    prepare(stage, machine, world)
    run = RunState(
        stage=stage,
        path=path,
        optimizer=Optimizer(
            stage.model,
            stage.optim,
            stage.device,
            scales_loss=precision.scales_loss,
            average=stage.average,
        ),
        schedule=Schedule(optim=stage.optim, steps_per_epoch=stage.steps_per_epoch),
    )
    first = run.resume()
    _check_shared(folder, first)
    if first >= steps:
        logger.info("%s: already trained (%d steps)", stage.name, first)
        return path
    if first > 0:
        logger.info("%s: goes on at step %d of %d", stage.name, first, steps)
    if world.is_main:
        _claim(folder, run, config, first, remember)
    if world.size > 1:
        share_weights(stage.model)
    compile_backbones(stage, compiled)
    with _naming_memory_settings(path):
        _run_steps(run, config, world, precision, first, compiled)
    barrier()
    return path


def _run_steps(
    run: RunState, config: Config, world: World, precision: Precision, first: int, compiled: str
) -> None:
    """Runs the steps from `first` to the last."""
    stage, num_pieces = run.stage, run.stage.optim.accumulate
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(loader.stream(first * num_pieces)))
            for loader in stage.loaders
        ]
        reporter = stack.enter_context(reporting(run, config, world, precision, first))
        for number in range(first, stage.optim.steps):
            if world.size > 1:
                # Dropout differs between processes, and depends on the step alone.
                torch.manual_seed(_seed(config.machine.seed, number, world.rank))
            values = StepValues(step=number, num_pieces=num_pieces)
            begin_step(compiled)
            step = Step(
                values=values,
                streams=streams,
                optimizer=run.optimizer,
                rate=run.schedule.lr(number),
                progress=number / stage.optim.steps,
                autocast=precision.autocast(stage.device),
                may_skip=config.machine.may_skip,
                augment=stage.augment,
            )
            stage.step(step)
            reporter.take(values)


def _claim(folder: Path, run: RunState, config: Config, first: int, remember: bool) -> None:
    """Before the first step, writes the settings, the engine's record and a checkpoint.

    So no run with other settings can use the folder. With `remember`, the work folder also keeps
    the settings and where the data is.
    """
    if remember:
        remember_config(folder.parent, config)
        remember_data(folder.parent, run.stage.loaders[0].manifest)
    if first == 0:
        publish_bytes(folder / CONFIG, dump_yaml(config).encode())
        write_engine(folder, run.stage.engine or run.stage.loaders[0].choice)
        run.save(0, config.machine.keep_last)


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def _check_shared(folder: Path, step: int) -> None:
    """Raises InputError where the processes do not see the same checkpoint."""
    if mean(torch.tensor(float(step))).item() != step:
        raise InputError(
            f"{folder}: not every process sees the same checkpoint there; give an --out on storage "
            "that all machines share"
        )


@contextmanager
def _naming_memory_settings(path: Path) -> Iterator[None]:
    """Turns an out-of-memory error into one that names the settings that help."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise TrainingError(
            f"out of memory ({reason}); --set machine.activation_checkpointing=true goes on from "
            f"{path}; or begin another --out with a higher optim.accumulate of that stage (the "
            "same batch in more pieces), a lower optim.batch_size, or a lower clips.size_px"
        ) from error
