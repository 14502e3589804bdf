"""Several processes that train together.

Each process takes its share of every step's videos. One `all_reduce` a step averages the gradients,
after the backward pass and not during it. That loses some overlap, but the training loop stays the
same for one process and for many. Only rank 0 writes files, except for bad.jsonl: every process
adds its bad videos to it.
"""

import atexit
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from tb.training.world import World, meeting_point, world_from

P = ParamSpec("P")
R = TypeVar("R")
# Ranks wait for rank 0 while it evaluates, however long that takes.
_PATIENCE = timedelta(days=7)


@cache
def join() -> World:
    """This process's world; the first call waits for the other processes.

    Raises:
        InputError: The environment is not complete.
    """
    world = world_from(os.environ)
    if world.size == 1:
        return world
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = meeting_point(os.environ)
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(torch.device(world.device("cuda")))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, rank=world.rank, world_size=world.size)
    _patient_group()  # all processes must make it together
    atexit.register(distributed.destroy_process_group)
    return world


@cache
def _patient_group() -> Any:
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)


def barrier() -> None:
    """Returns once all processes have called it."""
    if join().size > 1:
        # Torch's own `barrier` would wait on the GPUs, and only for ten minutes.
        distributed.all_reduce(torch.zeros(1), group=_patient_group())


def main_first(function: Callable[P, R]) -> Callable[P, R]:
    """Makes rank 0 run `function` first; the others then find its result on disk."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if join().is_main:
            result = function(*args, **kwargs)
            barrier()
            return result
        barrier()
        return function(*args, **kwargs)

    return call


def of_main(number: int) -> int:
    """Rank 0's number, on all processes; the others wait for it."""
    values = torch.tensor(number if join().is_main else 0)
    if join().size > 1:
        distributed.all_reduce(values, group=_patient_group())
    return int(values)


def mean(values: Tensor) -> Tensor:
    """The mean of all processes' values."""
    world = join()
    if world.size > 1:
        distributed.all_reduce(values)
        values /= world.size
    return values


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Makes each gradient the mean of its values in all processes."""
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
    """All processes' rows, in order of rank. The gradient of a row goes back to its process.

    Args:
        rows: (B, ...), of the same shape in all processes.

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
        # Every process computes the loss of all rows, and the gradients are averaged later. The
        # sum here and the mean there give the gradient of one process that sees all rows.
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        world = join()
        return total.chunk(world.size)[world.rank]
