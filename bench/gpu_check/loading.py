"""Step `loaders`: videos per second of the engines and of their peers.

The peers are torchcodec with torchvision v2 on the device, and plain DALI: its WebDataset reader
and random operators, where each clip is decoded separately.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.sources import rate, usual
from bench.gpu_check.task import RECIPES, CheckCell, Task, num_cores
from bench.peers import torchcodec_decoder
from bench.peers.torchvision_views import torchvision_views
from bench.soak import made_sets, soaked
from loaders import DaliLayout, Loader, Plan, TryLayouts, open_loader
from loaders.engines.dali.layout import DaliViews
from shards.format.manifest import read_manifest
from shards.format.shard import index_name
from shards.reader import ShardReader

_BATCH_SIZES = {"pretrain": 16, "student": 32, "eval": 8}
# The threads of torchcodec, and the batches in work after the current one.
_NUM_DECODERS, _NUM_BATCHES_AHEAD = 32, 2


@dataclass(frozen=True, kw_only=True)
class ViewsToLoad:
    """What is loaded: a stage's views at a size, from videos of a recipe."""

    stage: str
    size_px: int
    recipe: str

    @property
    def name(self) -> str:
        """Their name in the findings."""
        return f"{self.stage} {self.size_px} {self.recipe}"


def cells(task: Task) -> Iterator[CheckCell]:
    """Each stage and size in each engine and place; then layouts, recipes, peers, and a soak."""
    sizes = (32,) if task.is_dry else (224, 112)
    shown = [
        ViewsToLoad(stage=stage, size_px=size_px, recipe="h264")
        for size_px in sizes
        for stage in ("pretrain", "student")
    ]
    for views in shown:
        yield _cell(task, views, "dali")
        if not (task.is_dry and views.stage == "pretrain"):  # Triton's interpreter takes a minute
            yield CheckCell(
                name=f"{views.name} dali kernel",
                run=partial(_kernel, task, views),
                is_long=views.size_px != sizes[0],
            )
        yield _cell(task, views, "fused")
        run = partial(_torchcodec, task, views)
        yield CheckCell(name=f"{views.name} torchcodec", run=lambda run=run: rate(task, run()))
    for views in shown:
        for engine in ("dali", "fused"):
            yield _in_process(task, views, engine, is_long=views is not shown[0])
    for views in shown:
        yield _cell(task, views, "dali", TryLayouts(), is_long=True)
    for layout in _more_layouts(task):
        yield _cell(task, shown[0], "dali", layout, is_long=True)
    for recipe in RECIPES[1:]:
        views = ViewsToLoad(stage="pretrain", size_px=sizes[0], recipe=recipe)
        yield _cell(task, views, "dali", is_long=True)
    for engine in ("dali", "fused"):
        views = ViewsToLoad(stage="eval", size_px=sizes[0], recipe="h264")
        yield _cell(task, views, engine, is_long=True)
    # DALI decodes no H.264 on the CPU.
    plain = ViewsToLoad(stage="pretrain", size_px=sizes[0], recipe=task.decoded_recipe)
    yield CheckCell(
        name=f"{plain.name} plain dali",
        run=lambda: rate(task, _plain_dali(task, plain)),
        is_long=True,
    )
    for engine in ("dali", "fused"):
        yield CheckCell(name=f"soak {engine}", run=partial(_soak, task, engine), is_long=True)


def _more_layouts(task: Task) -> list[DaliLayout]:
    if task.is_dry:
        return [DaliLayout(num_pipelines=2, depth=1, num_threads=1)]
    return [
        DaliLayout(num_pipelines=1, depth=2, num_threads=32),
        DaliLayout(num_pipelines=4, depth=2, num_threads=8),
        DaliLayout(num_pipelines=task.num_decoders, depth=1, num_threads=4),
    ]


def _cell(
    task: Task,
    views: ViewsToLoad,
    engine: str,
    layout: DaliLayout | TryLayouts | None = None,
    *,
    is_long: bool = False,
) -> CheckCell:
    """An engine with its threads where a training on a GPU has them: in the loader process."""
    told = " tuned" if isinstance(layout, TryLayouts) else f" {layout}" if layout else ""
    run = partial(_engine, task, views, engine, layout=layout)
    return CheckCell(name=f"{views.name} {engine}{told}", run=run, is_long=is_long)


def _in_process(task: Task, views: ViewsToLoad, engine: str, *, is_long: bool) -> CheckCell:
    """The same engine with its threads in this process; for dali, the threads that read."""
    run = partial(_engine, task, views, engine, in_process=True)
    return CheckCell(name=f"{views.name} {engine} in process", run=run, is_long=is_long)


def _engine(
    task: Task,
    views: ViewsToLoad,
    engine: str,
    *,
    layout: DaliLayout | TryLayouts | None = None,
    in_process: bool = False,
) -> CellFigures:
    loader = _loader(task, views, engine, layout=layout, in_process=in_process)
    used = {"layout": str(loader.engine.layout)} if engine == "dali" else {}
    return rate(task, _num_videos(loader), **used)


def _kernel(task: Task, views: ViewsToLoad) -> CellFigures:
    layout = usual(task, _batch_size(task, views), DaliViews.KERNEL)
    return _engine(task, views, "dali", layout=layout)


def _batch_size(task: Task, views: ViewsToLoad) -> int:
    return 2 if task.is_dry else _BATCH_SIZES[views.stage]


def _loader(task: Task, views: ViewsToLoad, engine: str, **more: Any) -> Loader:
    return open_loader(
        task.shards(views.recipe),
        views.stage,
        size_px=views.size_px,
        engine=engine,
        device=str(task.device),
        dtype="float16",
        batch_size=_batch_size(task, views),
        **more,
    )


def _soak(task: Task, engine: str) -> CellFigures:
    """Checks that the processes of a loader hold no more at the end of many epochs."""
    num_epochs, device = 3 if task.is_dry else 100, task.device.type
    with TemporaryDirectory(dir=task.work) as folder:
        sets = made_sets(Path(folder), device)[: 1 if task.is_dry else None]
        runs = [
            soaked(shards, engine, device, in_process, num_epochs)
            for shards in sets
            for in_process in (True, False)
        ]
    grown = [text for run in runs for text in run.problems]
    return {"epochs": num_epochs, "grown": grown, "passed": not grown}


def _num_videos(loader: Loader) -> Generator[int]:
    with loader:
        for batch in loader.stream():
            yield len(batch.keys)


def _torchcodec(task: Task, views: ViewsToLoad) -> Generator[int]:
    decoder_of = torchcodec_decoder()
    loader = _loader(task, views, "fused", in_process=True)  # for its plans; it makes nothing

    def render(reader: ShardReader, plan: Plan, b: int) -> None:
        needed, place = np.unique(plan.frames[b], return_inverse=True)
        data = reader.read(int(plan.rows[b]))
        decoder = decoder_of(data, device=task.device, num_ffmpeg_threads=1)
        frames = decoder.get_frames_at(needed.tolist()).data
        torch.stack(torchvision_views(frames, place.reshape(plan.frames[b].shape), plan, b))

    num_threads = 2 if task.is_dry else _NUM_DECODERS
    with (
        loader,
        ShardReader(loader.manifest) as reader,
        ThreadPoolExecutor(num_threads) as pool,
    ):
        begun = (
            [pool.submit(render, reader, plan, b) for b in np.flatnonzero(plan.rows >= 0).tolist()]
            for plan in loader.planner.stream()
        )
        yield from finished(begun)


def finished(batches: Iterator[list[Future[None]]]) -> Generator[int]:
    """Yields the number of videos of each batch when it is ready.

    The next two batches are in work then, so threads do not wait for the slowest video of a batch.
    """
    in_work: deque[list[Future[None]]] = deque()
    for jobs in batches:
        in_work.append(jobs)
        if len(in_work) > _NUM_BATCHES_AHEAD:
            ready = in_work.popleft()
            for job in ready:
                job.result()
            yield len(ready)


def _plain_dali(task: Task, views: ViewsToLoad) -> Generator[int]:
    from nvidia.dali import Pipeline, fn, types

    manifest = read_manifest(task.shards(views.recipe))
    batch_size = _batch_size(task, views)
    on_gpu = task.device.type == "cuda"
    with _loader(task, views, "fused", in_process=True) as loader:
        spec = loader.spec
    pipeline = Pipeline(
        batch_size=batch_size, num_threads=num_cores(), device_id=0 if on_gpu else None
    )
    with pipeline:
        encoded = fn.readers.webdataset(
            paths=[str(manifest.root / name) for name in manifest.shard_names],
            index_paths=[str(manifest.root / index_name(n)) for n in manifest.shard_names],
            ext=["mp4"],
            missing_component_behavior="error",
            random_shuffle=True,
        )
        clips = []
        for offsets in spec.offsets:
            clip = fn.decoders.video(
                encoded,
                device="mixed" if on_gpu else "cpu",
                start_frame=int(offsets[0]),
                stride=int(offsets[1] - offsets[0]),
                sequence_length=len(offsets),
                pad_mode="edge",
            )
            clip = fn.random_resized_crop(clip, size=[spec.size_px, spec.size_px], antialias=True)
            clip = fn.flip(clip, horizontal=fn.random.coin_flip())
            clip = fn.color_twist(clip, hue=fn.random.uniform(range=[-36, 36]))
            clips.append(fn.cast(clip / 255.0, dtype=types.FLOAT16))
        pipeline.set_outputs(*clips)
    pipeline.build()
    while True:
        pipeline.run()
        yield batch_size
