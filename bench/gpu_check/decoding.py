"""Step `decoding`: decoding alone, without views: threads, pipelines, codecs, whole files."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.sources import dali_engine, plan_of, rate
from bench.gpu_check.task import RECIPES, CheckCell, Task
from loaders.engines.dali.caps_cache import caps_cache
from loaders.engines.dali.graph import Graph, Inputs
from loaders.engines.dali.samples import Sample, SampleBatch
from shards.reader import ShardReader

_DEPTH = 2


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """A way to decode.

    Attributes:
        recipe: The codec.
        is_whole: Whole files; otherwise files that hold only the window.
        num_pipelines: Pipelines that take turns.
        num_threads: Threads of each.
        remembers: Whether the driver's answers about its decoders are remembered.
    """

    recipe: str
    is_whole: bool = False
    num_pipelines: int = 1
    num_threads: int = 16
    remembers: bool = True

    @property
    def name(self) -> str:
        """Its name in the findings."""
        kind = "whole files" if self.is_whole else "windows"
        asked = "" if self.remembers else ", the driver asked for each"
        return f"{self.recipe} {kind} {self.num_pipelines}x{self.num_threads}{asked}"


def cells(task: Task) -> Iterator[CheckCell]:
    """What the driver's answers cost, then threads, whole files, pipelines, codecs."""
    plain = Decoding(recipe=task.decoded_recipe)
    if task.is_dry:
        ways = [replace(plain, num_threads=n) for n in (1, 2)]
        ways += [replace(plain, num_threads=2, is_whole=True)]
        longer = [replace(plain, num_pipelines=2, num_threads=1)]
    else:
        ways = [plain, replace(plain, remembers=False)]
        ways += [replace(plain, num_threads=n) for n in (1, 4, 32, 48)]
        ways += [replace(plain, is_whole=True)]
        ways += [replace(plain, num_pipelines=2), replace(plain, num_pipelines=7, num_threads=4)]
        ways += [replace(plain, recipe="hevc")]
        longer = [replace(plain, num_threads=n) for n in (2, 8, 24)]
        longer += [replace(plain, num_pipelines=n) for n in (4, 7)]
        longer += [replace(plain, recipe=recipe, num_pipelines=2) for recipe in RECIPES[1:]]
        longer += [replace(plain, recipe=recipe, is_whole=True) for recipe in RECIPES[1:]]
    for way in ways:
        yield CheckCell(name=way.name, run=partial(_decode, task, way))
    for way in longer:
        yield CheckCell(name=way.name, run=partial(_decode, task, way), is_long=True)


def _decode(task: Task, way: Decoding) -> CellFigures:
    batch_size = 2 if task.is_dry else 48  # a thread decodes one video of a batch
    with (
        dali_engine(task, "pretrain", batch_size=batch_size, recipe=way.recipe) as (engine, loader),
        ShardReader(loader.manifest) as reader,
    ):
        batch = engine.read(reader, plan_of(loader))
        if way.is_whole:
            rows = batch.plan.rows
            batch.samples = {
                b: _whole(sample, reader.read(int(rows[b]))) for b, sample in batch.samples.items()
            }
        graphs = [
            engine.graph(way.num_threads, _DEPTH, until="decode") for _ in range(way.num_pipelines)
        ]
        inputs, num_videos = batch.inputs(list(batch.samples)), len(batch.samples)
        cache = caps_cache() if task.device.type == "cuda" else None
        asked = cache.num_asked if cache else 0
        with nullcontext() if cache is None or way.remembers else cache.off():
            found = rate(task, _turns(graphs, inputs, num_videos))
        if cache:
            found["driver_asked"] = cache.num_asked - asked
    frames_per_video = _num_decoded(batch) / num_videos
    return found | {
        "frames_per_video": round(frames_per_video, 1),
        "frames_per_s": round(found["videos_per_s"] * frames_per_video, 1),
    }


def _whole(sample: Sample, data: bytes) -> Sample:
    return replace(sample, data=np.frombuffer(data, np.uint8), first=0)


def _num_decoded(batch: SampleBatch) -> int:
    """Frames that are decoded for a batch: from the start of each file to its last frame."""
    return sum(int(one.frames[-1]) - one.first + 1 for one in batch.samples.values())


def _turns(graphs: list[Graph], inputs: Inputs, num_videos: int) -> Generator[int]:
    running: deque[Graph] = deque()
    for number in count():
        graph = graphs[number % len(graphs)]
        graph.submit(inputs)
        running.append(graph)
        if len(running) == _DEPTH * len(graphs):
            running.popleft().drop()
            yield num_videos
