"""Videos per second on a GPU: layouts and recipes of the DALI engine, and its peers.

The peers are the CPU engine, torchcodec and torchvision v2 on the device, and plain DALI: its
WebDataset reader and random operators, where each clip is decoded separately.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from bench.gpu_meter import Meter
from bench.gpu_task import RECIPES, Found, Task
from bench.peers import torchcodec_decoder
from bench.peers.torchvision_views import torchvision_views
from loaders import DaliLayout, Loader, open_loader
from loaders.engines.dali.nvdec import decoder_caps
from loaders.plan.draw import Plan
from shards.format.manifest import read_manifest
from shards.format.shard import index_name
from shards.reader import ShardReader

_BATCH_SIZES = {"pretrain": 8, "student": 32, "eval": 4}
_WARM_BATCHES, _SECONDS = 16, 3.0
_MAX_DECODERS = 8  # of torchcodec


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One figure of the table; `run` yields the number of videos of each batch."""

    name: str
    run: Callable[[], Generator[int]]


def throughput(task: Task) -> Found:
    """The figure of every cell, with the load of the GPU."""
    found: Found = {}
    passed = True
    for cell in _cells(task):
        if time.time() > task.end_s:
            found[cell.name] = {"problem": "left out: no time"}
        else:
            found[cell.name] = _measured(cell.run, task)
        passed &= "problem" not in found[cell.name]
        task.save(found)
    return found | {"passed": passed}


def _measured(run: Callable[[], Generator[int]], task: Task) -> Found:
    """Videos per second after a warm-up."""
    warm_batches, seconds = (1, 0.2) if task.is_dry else (_WARM_BATCHES, _SECONDS)
    try:
        with closing(run()) as batches:
            for _ in islice(batches, warm_batches):
                pass
            num_videos = 0
            _synchronize(task.device)
            with Meter(task.device) as meter:
                began_s = time.perf_counter()
                while time.perf_counter() - began_s < seconds:
                    num_videos += next(batches)
                _synchronize(task.device)
                wall_s = time.perf_counter() - began_s
    except ImportError as error:  # a peer that is not installed is no failure
        return {"missing": str(error)}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"[:500]}
    return {"videos_per_s": round(num_videos / wall_s, 1), **meter.figures}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cells(task: Task) -> Iterator[_Cell]:
    """The cells, the most important first, because time may run out."""
    if task.is_dry:
        layouts, sizes = [2, 1], [32]
    else:
        decoders = max(1, decoder_caps(task.device, "h264").num_decoders)
        layouts, sizes = sorted({1, 2, 4, decoders}, reverse=True), [224, 112]
    for size_px in sizes:
        for stage in _BATCH_SIZES:
            for number in layouts:
                yield _dali(task, stage, size_px, "h264", number)
            yield _fused(task, stage, size_px)
            yield _torchcodec(task, stage, size_px)
        if size_px == sizes[0]:
            for recipe in RECIPES[1:]:
                yield _dali(task, "pretrain", size_px, recipe, layouts[0])
            # DALI decodes no H.264 on the CPU.
            yield _plain_dali(task, "pretrain", size_px, "vp9" if task.is_dry else "h264")


def _loader(task: Task, stage: str, size_px: int, recipe: str, engine: str, **more: Any) -> Loader:
    return open_loader(
        task.shards(recipe),
        stage,
        size_px=size_px,
        engine=engine,
        device=str(task.device),
        dtype="float16",
        batch_size=2 if task.is_dry else _BATCH_SIZES[stage],
        **more,
    )


def _num_videos(loader: Loader) -> Generator[int]:
    with loader:
        for batch in loader.stream():
            yield len(batch.keys)


def _dali(task: Task, stage: str, size_px: int, recipe: str, num_pipelines: int) -> _Cell:
    def run() -> Generator[int]:
        layout = DaliLayout(num_pipelines=num_pipelines, depth=2 if num_pipelines == 1 else 1)
        return _num_videos(_loader(task, stage, size_px, recipe, "dali", layout=layout))

    return _Cell(name=f"{stage} {size_px} {recipe} dali x{num_pipelines}", run=run)


def _fused(task: Task, stage: str, size_px: int) -> _Cell:
    def run() -> Generator[int]:
        return _num_videos(_loader(task, stage, size_px, "h264", "fused"))

    return _Cell(name=f"{stage} {size_px} h264 fused", run=run)


def _torchcodec(task: Task, stage: str, size_px: int) -> _Cell:
    def run() -> Generator[int]:
        decoder_of = torchcodec_decoder()
        loader = _loader(task, stage, size_px, "h264", "fused")

        def render(reader: ShardReader, plan: Plan, b: int) -> None:
            needed, place = np.unique(plan.frames[b], return_inverse=True)
            data = reader.read(int(plan.rows[b]))
            decoder = decoder_of(data, device=task.device, num_ffmpeg_threads=1)
            frames = decoder.get_frames_at(needed.tolist()).data
            torch.stack(torchvision_views(frames, place.reshape(plan.frames[b].shape), plan, b))

        workers = min(_MAX_DECODERS, len(os.sched_getaffinity(0)))
        with ShardReader(loader.manifest) as reader, ThreadPoolExecutor(workers) as pool:
            for plan in _endless(loader):
                rows = np.flatnonzero(plan.rows >= 0).tolist()
                for job in [pool.submit(render, reader, plan, b) for b in rows]:
                    job.result()
                yield len(rows)

    return _Cell(name=f"{stage} {size_px} h264 torchcodec", run=run)


def _endless(loader: Loader) -> Iterator[Plan]:
    epoch = 0
    while True:
        yield from loader.plans(epoch)
        epoch += 1


def _plain_dali(task: Task, stage: str, size_px: int, recipe: str) -> _Cell:
    def run() -> Generator[int]:
        from nvidia.dali import Pipeline, fn, types

        manifest = read_manifest(task.shards(recipe))
        batch_size = 2 if task.is_dry else _BATCH_SIZES[stage]
        on_gpu = task.device.type == "cuda"
        pipeline = Pipeline(
            batch_size=batch_size,
            num_threads=len(os.sched_getaffinity(0)),
            device_id=0 if on_gpu else None,
        )
        with pipeline:
            encoded = fn.readers.webdataset(
                paths=[str(manifest.root / name) for name in manifest.shard_names],
                index_paths=[str(manifest.root / index_name(n)) for n in manifest.shard_names],
                ext=["mp4"],
                missing_component_behavior="error",
                random_shuffle=True,
            )
            spec = _loader(task, stage, size_px, recipe, "fused").spec
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
                clip = fn.random_resized_crop(clip, size=[size_px, size_px], antialias=True)
                clip = fn.flip(clip, horizontal=fn.random.coin_flip())
                clip = fn.color_twist(clip, hue=fn.random.uniform(range=[-36, 36]))
                clips.append(fn.cast(clip / 255.0, dtype=types.FLOAT16))
            pipeline.set_outputs(*clips)
        pipeline.build()
        while True:
            pipeline.run()
            yield batch_size

    return _Cell(name=f"{stage} {size_px} {recipe} plain dali", run=run)
