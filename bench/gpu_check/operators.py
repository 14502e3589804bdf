"""Step `operators`: one video through the graph, each time with one more operator; then the kernel.

The first cell without figures names what breaks. DALI may end the process there on a GPU; the
report still names the cell.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.sources import dali_engine, plan_of, synchronize, usual
from bench.gpu_check.task import CheckCell, Task
from loaders import ViewSpec, open_loader
from loaders.engines.dali.graph import OPERATORS
from loaders.engines.dali.layout import DaliViews
from loaders.plan import stage_views
from loaders.plan.normalization import NORMALIZATIONS
from loaders.plan.views import Augment
from shards.reader import ShardReader

# All augmentations with probability 1, so every operator of the graph has work.
_EVERYTHING = Augment(color_p=1.0, gamma=(0.8, 1.2), gamma_p=1.0, num_erase=1, erase_p=1.0)


def cells(task: Task) -> Iterator[CheckCell]:
    """Reading, each operator, then all views in every type and in a loader, made both ways."""
    spec = stage_views.pretrain(size_px=32 if task.is_dry else 224, augment=_EVERYTHING)
    yield CheckCell(name="read", run=partial(_read, task, spec))
    normalised = replace(spec, normalization=NORMALIZATIONS["imagenet"])
    for name in OPERATORS:
        yield CheckCell(name=name, run=partial(_until, task, normalised, name))
    if task.is_dry:
        spec = stage_views.finetune(size_px=32, augment=_EVERYTHING)  # few pixels: see `DaliViews`
    for name, views in (("whole graph", DaliViews.OPERATORS), ("kernel", DaliViews.KERNEL)):
        for dtype in ("float32", "float16", "uint8"):
            run = partial(_whole, task, spec, dtype, views)
            yield CheckCell(name=f"{name}, {dtype}", run=run)


def _read(task: Task, spec: ViewSpec) -> CellFigures:
    with (
        dali_engine(task, spec, batch_size=1) as (engine, loader),
        ShardReader(loader.manifest) as reader,
    ):
        batch = engine.read(reader, plan_of(loader))
        return {"bytes": int(batch.samples[0].data.nbytes)}


def _until(task: Task, spec: ViewSpec, name: str) -> CellFigures:
    with (
        dali_engine(task, spec, batch_size=1) as (engine, loader),
        ShardReader(loader.manifest) as reader,
    ):
        inputs = engine.read(reader, plan_of(loader)).inputs([0])
        graph = engine.graph(num_threads=2, depth=1, until=name)
        for _ in range(2):  # the first run makes the decoder
            began_s = time.perf_counter()
            graph.submit(inputs)
            graph.drop()
            synchronize(task.device)
            ms = 1000 * (time.perf_counter() - began_s)
        return {"ms": round(ms, 2)}


def _whole(task: Task, spec: ViewSpec, dtype: str, made_by: DaliViews) -> CellFigures:
    loader = open_loader(
        task.shards(task.decoded_recipe),
        spec,
        engine="dali",
        device=str(task.device),
        dtype=dtype,
        batch_size=1,
        layout=usual(task, 1, made_by),
    )
    with loader:
        views = next(loader.batches(0)).views
        means = {name: float(view.float().mean()) for name, view in views.items()}
        is_on_device = all(view.device.type == task.device.type for view in views.values())
        is_typed = all(view.dtype == getattr(torch, dtype) for view in views.values())
    return {"mean": means, "passed": is_on_device and is_typed and min(means.values()) > 0}
