"""This process's place among those that train together, as torchrun or SLURM's srun describe it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shards.errors import InputError


@dataclass(frozen=True, kw_only=True)
class World:
    """A process's place among all that train together.

    Attributes:
        rank: Its number, from 0.
        size: How many processes there are.
        local_rank: Its number among the processes of its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device that `machine.device` means here. Several processes have a GPU each."""
        import torch

        num_gpus = torch.cuda.device_count()
        if self.size > 1 and num_gpus and name in ("auto", "cuda"):
            return f"cuda:{self.local_rank % num_gpus}"
        return name


def world_from(environ: Mapping[str, str]) -> World:
    """The world that torchrun (first) or srun describes; one process where neither does.

    Raises:
        InputError: The description is incomplete.
    """
    try:
        if "WORLD_SIZE" in environ:
            rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
            local_rank = int(environ.get("LOCAL_RANK", rank))
        elif int(environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
            rank, size = int(environ["SLURM_PROCID"]), int(environ["SLURM_STEP_NUM_TASKS"])
            local_rank = int(environ["SLURM_LOCALID"])
        else:
            return World()
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the environment describes several processes, but {error} is missing or wrong; start "
            "with `torchrun --nproc-per-node N -m tb.cli ...` or srun"
        ) from None
    return World(rank=rank, size=size, local_rank=local_rank)


def meeting_point(environ: Mapping[str, str]) -> tuple[str, str]:
    """(MASTER_ADDR, MASTER_PORT) as set, else the SLURM step's first host and a port from its ids.

    Raises:
        InputError: The environment names neither.
    """
    hosts = environ.get("SLURM_STEP_NODELIST", "")
    # "gpu[03-04,7],login1" -> "gpu03".
    first = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", hosts)
    host = environ.get("MASTER_ADDR") or (first and first[1] + (first[2] or ""))
    if not host:
        raise InputError("MASTER_ADDR is not set: start with torchrun or srun, or set it")
    step = int(environ.get("SLURM_JOB_ID", 0)) + int(environ.get("SLURM_STEP_ID", 0))
    return host, environ.get("MASTER_PORT") or str(20_000 + step % 10_000)
