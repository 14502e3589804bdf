"""Several processes that train together, as torchrun or SLURM's srun start them.

Each process takes its share of every step's videos; gradients are averaged by one `all_reduce` a
step, not in buckets while the backward pass still runs: that costs some overlap, and leaves the
training loop the same with one process and with many. Only rank 0 writes.
"""

import atexit
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, wraps
from multiprocessing import parent_process
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from shards.cpus import num_cpus
from shards.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
# How long ranks wait for rank 0 while it evaluates: as long as that may take.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class World:
    """A process's place among `size`; `local_rank` is that among the `local_size` on its cores."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device that `machine.device` stands for here: a GPU of its own, of several."""
        num_gpus = torch.cuda.device_count()
        if self.size > 1 and num_gpus and name in ("auto", "cuda"):
            return f"cuda:{self.local_rank % num_gpus}"
        return name

    def num_workers(self, number: int | None) -> int | None:
        """`machine.num_workers`, or this process's share of the cores where it is not given."""
        if number is None and self.local_size > 1:
            return max(1, num_cpus() // self.local_size)
        return number


def world_from(environ: Mapping[str, str]) -> World:
    """The world that torchrun (first) or srun describes; of one process where neither does.

    Raises:
        InputError: The description is not complete.
    """
    try:
        if "WORLD_SIZE" in environ:
            rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
            local_rank = int(environ.get("LOCAL_RANK", rank))
            local_size = int(environ.get("LOCAL_WORLD_SIZE", 1))
        elif int(environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
            rank, size = int(environ["SLURM_PROCID"]), int(environ["SLURM_STEP_NUM_TASKS"])
            local_rank, local_size = int(environ["SLURM_LOCALID"]), 1  # its cores are its own
        else:
            return World()
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the environment describes several processes, but {error} is amiss; start with "
            "`torchrun --nproc-per-node N -m tb.cli ...` or srun"
        ) from None
    return World(rank=rank, size=size, local_rank=local_rank, local_size=local_size)


def meeting_point(environ: Mapping[str, str]) -> tuple[str, str]:
    """(MASTER_ADDR, MASTER_PORT): torchrun's, or the SLURM step's first host and a port of its own.

    Raises:
        InputError: Neither says.
    """
    hosts = environ.get("SLURM_STEP_NODELIST", "")
    # "gpu[03-04,7],login1" -> "gpu03".
    first = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", hosts)
    host = environ.get("MASTER_ADDR") or (first and first[1] + (first[2] or ""))
    if not host:
        raise InputError("MASTER_ADDR is not set: start with torchrun or srun, or set it")
    step = int(environ.get("SLURM_JOB_ID", 0)) + int(environ.get("SLURM_STEP_ID", 0))
    return host, environ.get("MASTER_PORT") or str(20_000 + step % 10_000)


@cache
def join() -> World:
    """This process's world; the first call meets the others.

    Raises:
        InputError: The environment is not complete, or this is a child of `--jobs`.
    """
    world = world_from(os.environ)
    if world.size == 1:
        return world
    if parent_process() is not None:
        raise InputError("--jobs starts processes of its own: leave it out under torchrun or srun")
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = meeting_point(os.environ)
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(torch.device(world.device("cuda")))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, rank=world.rank, world_size=world.size)
    _patient_group()  # all processes make it together
    atexit.register(distributed.destroy_process_group)
    return world


@cache
def _patient_group() -> Any:
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)


def barrier() -> None:
    """Returns once all processes have called it."""
    if join().size > 1:
        # Not `barrier`, which would wait on the GPUs, and for ten minutes at most.
        distributed.all_reduce(torch.zeros(1), group=_patient_group())


def main_first(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which keeps what it finds on disk: rank 0 runs it, then the others find it."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if join().is_main:
            result = function(*args, **kwargs)
            barrier()
            return result
        barrier()
        return function(*args, **kwargs)

    return call


def mean(values: Tensor) -> Tensor:
    """The mean of all processes' values."""
    world = join()
    if world.size > 1:
        distributed.all_reduce(values)
        values /= world.size
    return values


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Makes each gradient the mean of all processes'."""
    if join().size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    means = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split(means, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def share_weights(model: nn.Module) -> None:
    """Gives all processes rank 0's weights and buffers."""
    if join().size > 1:
        for value in model.state_dict().values():
            distributed.broadcast(value, 0)


def gather(rows: Tensor) -> Tensor:
    """All processes' rows, in order of rank; gradients go back to whom the rows came from.

    Args:
        rows: (B, ...), of one shape everywhere.

    Returns:
        (size x B, ...).
    """
    if join().size == 1:
        return rows
    return cast(Tensor, _Gather.apply(rows))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows).contiguous() for _ in range(join().size)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        # Every process has a loss of all rows, and the gradients are averaged later: the sum here
        # and the mean there give the gradient of one process that sees them all.
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        world = join()
        return total.chunk(world.size)[world.rank]
