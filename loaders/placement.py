"""Where the threads of a loader run: in this process, or in the loader process."""

from collections.abc import Callable
from typing import TypedDict

import numpy as np
import torch

from loaders.engines.choice import DTYPES, EngineName, open_dali
from loaders.engines.cpu import open_cpu_engine
from loaders.engines.dali.layout import DaliLayout, TryLayouts
from loaders.engines.threads import LOOKAHEAD_MB
from loaders.loader_process.process_producer import ProcessProducer
from loaders.plan.planner import Planner
from loaders.producer import LocalProducer, Producer
from loaders.transfer import pin
from shards.errors import InputError
from shards.reader import ShardReader


class _Settings(TypedDict):
    dtype: str
    num_workers: int
    lookahead_mb: int
    prepare: Callable[[np.ndarray], None] | None


def open_producer(
    planner: Planner,
    engine: EngineName,
    *,
    cache: bool,
    dtype: str,
    device: torch.device,
    num_workers: int,
    in_process: bool | None,
    lookahead_mb: int | None,
    layout: DaliLayout | TryLayouts | None,
) -> Producer:
    """Opens what makes a planner's pixels; the arguments are those of `open_loader`.

    Raises:
        InputError: An argument is out of range or means nothing for this engine, or the engine
            cannot be used.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    if num_workers < 1:
        raise InputError(f"num_workers is {num_workers}: give 1 or more, or leave it out")
    if lookahead_mb is not None and lookahead_mb < 1:
        raise InputError(f"lookahead_mb is {lookahead_mb}: give 1 or more, or leave it out")
    if engine == EngineName.DALI:
        if in_process is False or lookahead_mb is not None:
            name = "in_process" if in_process is False else "lookahead_mb"
            raise InputError(f"{name} is not for the engine dali: leave it out")
        reader = ShardReader(planner.manifest, cache=cache)
        opened = open_dali(planner, reader, dtype, device, num_workers, layout)
        return LocalProducer(planner, reader, opened)
    if layout is not None:
        raise InputError(f"layout is for the engine dali, and this is {engine}: leave it out")
    settings: _Settings = {
        "dtype": dtype,
        "num_workers": num_workers,
        "lookahead_mb": LOOKAHEAD_MB if lookahead_mb is None else lookahead_mb,
        "prepare": pin if device.type == "cuda" else None,
    }
    if in_process or (in_process is None and device.type == "cpu"):
        threads = open_cpu_engine(engine, planner.spec, batch_size=planner.batch_size, **settings)
        return LocalProducer(planner, ShardReader(planner.manifest, cache=cache), threads)
    return ProcessProducer(planner, engine=engine.value, cache=cache, **settings)
