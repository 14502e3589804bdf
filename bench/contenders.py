"""What `bench.loader_throughput` times: each contender in a separate process.

So the threads, workers and memory of one contender do not count in the figures of another. The
process stays alive between rounds, so its start-up does not count in any figure.
"""

import importlib
import io
import math
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from bench.peers import PEERS, THREADED, PeerRender
from bench.readers import FOLDER, READERS, Folder, rendered_views, shard_urls, webdataset_samples
from loaders import DaliLayout, Loader, TryLayouts, open_loader
from loaders.engines import reference
from loaders.engines.engine import EngineName, WorkTimes
from loaders.plan.draw import Plan
from shards.errors import InputError
from shards.reader import ShardReader

CEILING = "decode only"
_CLOCK_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of one round, the same for every contender."""

    shards: Path
    views: str
    size_px: int
    dtype: str
    num_batches: int
    batch_size: int
    num_workers: int
    layout: DaliLayout | TryLayouts | None = None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One round.

    Attributes:
        wall_s: Elapsed seconds.
        cpu_s: User and system seconds of all processes of a contender.
        num_videos: How many videos were served.
        times: For an engine, the elapsed seconds of its threads.
    """

    wall_s: float
    cpu_s: float
    num_videos: int
    times: WorkTimes


@dataclass(frozen=True, kw_only=True)
class BatchCount:
    """A batch: how many videos it has, and for an engine the seconds of its threads."""

    num_videos: int
    times: WorkTimes = field(default_factory=WorkTimes)


class Contender:
    """Handle of a contender's process.

    Attributes:
        problem: Why it cannot run; empty if it can.
        psnr_db: PSNR of its worst view against the reference engine; NaN for the ceiling.
    """

    def __init__(self, name: str, job: Job) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, job))
        self._process.start()
        theirs.close()
        self.problem, self.psnr_db = self._answer()

    def run(self, epoch: int) -> Timing:
        """Makes one round's batches and throws them away."""
        self._pipe.send(epoch)
        return cast(Timing, self._answer())

    def close(self) -> float:
        """Ends the process; returns the peak memory of the process and its workers, in MB."""
        self._pipe.send(None)
        peak_mb = cast(float, self._answer())
        self._process.join()
        return peak_mb

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.name}: its process died; see above") from None


def _serve(pipe: Connection, name: str, job: Job) -> None:
    try:
        run, psnr_db = _build(name, job)
    except (ImportError, InputError) as error:
        problem = str(error)
        if isinstance(error, ImportError):
            problem = f"not installed ({error}); pip install 'timebalance[bench]'"
        pipe.send((problem, float("nan")))
        pipe.recv()
        pipe.send(0.0)
        return
    for _ in run(0):
        pass
    pipe.send(("", psnr_db))
    while (epoch := pipe.recv()) is not None:
        wall_s, cpu_s = time.perf_counter(), _cpu_s()
        served = list(run(epoch))
        pipe.send(
            Timing(
                wall_s=time.perf_counter() - wall_s,
                cpu_s=_cpu_s() - cpu_s,
                num_videos=sum(batch.num_videos for batch in served),
                times=sum((batch.times for batch in served), WorkTimes()),
            )
        )
    pipe.send(sum(_peak_mb(pid) for pid in _pids()))


def _build(name: str, job: Job) -> tuple[Callable[[int], Iterator[BatchCount]], float]:
    """A function (epoch) -> what it serves, batch after batch; and its PSNR."""
    loader = open_loader(
        job.shards,
        job.views,
        size_px=job.size_px,
        engine=name if name in list(EngineName) else "fused",
        device="cpu",
        dtype=job.dtype,
        batch_size=job.batch_size,
        num_workers=job.num_workers,
        layout=job.layout if name == EngineName.DALI else None,
    )
    if name == CEILING:
        return lambda epoch: _decode_only(loader, job, epoch), float("nan")
    if name in list(EngineName):
        return lambda epoch: _engine(loader, job, epoch), _psnr_db(loader, _engine_views(name, job))
    torch.set_num_threads(1)  # as in its workers
    if name in READERS:
        return _reader(name, loader, job)
    render = importlib.import_module(PEERS[name]).load()
    # This `render` is only for the PSNR below. The workers load the library again.
    dataset = _PeerDataset(loader, name, job.dtype)
    if name in THREADED:
        pool = ThreadPoolExecutor(job.num_workers)
        batches = partial(_in_threads, pool, dataset, loader, job)
        return batches, _psnr_db(loader, _peer_views(render))
    workers: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=job.batch_size,
        sampler=(order := _Order()),
        num_workers=job.num_workers,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    run = lambda epoch: _peer(workers, order, loader, job, epoch)  # noqa: E731
    # Forks the workers before this process loads a library that a fork would break.
    for _ in run(0):
        pass
    return run, _psnr_db(loader, _peer_views(render))


def _reader(
    name: str, loader: Loader, job: Job
) -> tuple[Callable[[int], Iterator[BatchCount]], float]:
    """`loaders.Render` behind a reader that is not ours; see `bench.readers`."""
    options: dict[str, Any] = {
        "batch_size": job.batch_size,
        "persistent_workers": True,
        "multiprocessing_context": "fork",
    }
    order = _Order()
    if name == FOLDER:
        files = Folder(loader, job.dtype)
        workers = DataLoader(files, sampler=order, num_workers=job.num_workers, **options)
    else:
        num_workers = min(job.num_workers, len(shard_urls(loader)))
        samples = job.batch_size * math.ceil(job.num_batches / num_workers)
        dataset = webdataset_samples(loader, job.dtype, samples)
        workers = DataLoader(dataset, num_workers=num_workers, **options)
    # A `WebDataset` has its own order, so it ignores the rows of a round.
    run = lambda epoch: _peer(workers, order, loader, job, epoch)  # noqa: E731
    for _ in run(0):  # forks the workers first, as for peers
        pass
    return run, _psnr_db(loader, partial(rendered_views, loader))


def _engine(loader: Loader, job: Job, epoch: int) -> Iterator[BatchCount]:
    for batch in islice(loader.batches(epoch), job.num_batches):
        yield BatchCount(num_videos=int(batch.valid.sum()), times=batch.times)


def _decode_only(loader: Loader, job: Job, epoch: int) -> Iterator[BatchCount]:
    with ShardReader(loader.manifest) as reader, ThreadPoolExecutor(job.num_workers) as pool:

        def decode(plan: Plan, b: int) -> BatchCount:
            window = plan.frames[b]
            _decode_window(reader.read(plan.rows[b]), int(window.min()), int(window.max()))
            return BatchCount(num_videos=1)

        jobs = [
            pool.submit(decode, plan, b)
            for plan in islice(loader.plans(epoch), job.num_batches)
            for b in np.flatnonzero(plan.rows >= 0).tolist()
        ]
        for done in jobs:
            yield done.result()


def _decode_window(data: bytes, first: int, last: int) -> None:
    """Decodes from the keyframe before `first` to `last` in one thread and keeps no picture.

    It works for shards that `tb shard` has encoded: constant rate, no B-frames.
    """
    # Our opener has limits and checks, and this is the least time that PyAV takes without them.
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        end = stream.index_entries[last].timestamp
        container.seek(stream.index_entries[first].timestamp, stream=stream)
        for frame in container.decode(stream):
            if frame.pts is None or frame.pts >= end:
                return


class _Order:
    """The sampler: (epoch, row) of every video of the next round."""

    def __init__(self) -> None:
        self.indices: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.indices)


def _peer(
    workers: "DataLoader[Any]", order: _Order, loader: Loader, job: Job, epoch: int
) -> Iterator[BatchCount]:
    plans = islice(loader.plans(epoch), job.num_batches)
    order.indices = [(epoch, row) for plan in plans for row in plan.rows.tolist() if row >= 0]
    for batch in workers:
        yield BatchCount(num_videos=len(batch[0]))


def _in_threads(
    pool: ThreadPoolExecutor, dataset: "_PeerDataset", loader: Loader, job: Job, epoch: int
) -> Iterator[BatchCount]:
    """The threads work on this batch and the two after it."""
    started: deque[list[Future[list[torch.Tensor]]]] = deque()
    for plan in chain(islice(loader.plans(epoch), job.num_batches), [None, None]):
        if plan is not None:
            rows = plan.rows[plan.rows >= 0].tolist()
            started.append([pool.submit(dataset.__getitem__, (epoch, row)) for row in rows])
        if plan is None or len(started) > 2:
            batch = default_collate([done.result() for done in started.popleft()])
            yield BatchCount(num_videos=len(batch[0]))


class _PeerDataset(Dataset[list[torch.Tensor]]):
    """(epoch, manifest row) -> the views of each group, stacked, by one peer."""

    def __init__(self, loader: Loader, name: str, dtype: str) -> None:
        self._loader = loader
        self._name = name
        self._dtype = getattr(torch, dtype)
        self._opened: tuple[PeerRender, ShardReader] | None = None

    def __getitem__(self, index: tuple[int, int]) -> list[torch.Tensor]:
        if self._opened is None:
            render = importlib.import_module(PEERS[self._name]).load()
            self._opened = (render, ShardReader(self._loader.manifest))
        render, reader = self._opened
        epoch, row = index
        plan = self._loader.planner.plan(np.array([row]), np.array([epoch]))
        views = [_cast(view, self._dtype) for view in render(reader.read(row), plan, 0)]
        groups = []
        for group in self._loader.spec.groups:
            taken, views = views[: len(group.offsets)], views[len(group.offsets) :]
            groups.append(torch.stack(taken))
        return groups


def _cast(view: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (view * 255).round().to(dtype) if dtype == torch.uint8 else view.to(dtype)


# (plan of one video, reader) -> its views, each (T, S, S, 3) float32 in [0, 1].
_Views = Callable[[Plan, ShardReader], list[np.ndarray]]


def _engine_views(name: str, job: Job) -> _Views:
    """The views of an engine in full precision, even where a smaller type is timed."""
    loader = open_loader(
        job.shards, job.views, size_px=job.size_px, engine=name, device="cpu", batch_size=1
    )

    def views(plan: Plan, reader: ShardReader) -> list[np.ndarray]:
        (rendered,) = loader.engine.run(reader, iter([plan]))
        return [view for group in rendered.views for view in np.asarray(group[0])]

    return views


def _peer_views(render: PeerRender) -> _Views:
    def views(plan: Plan, reader: ShardReader) -> list[np.ndarray]:
        made = render(reader.read(int(plan.rows[0])), plan, 0)
        return [view.movedim(0, -1).numpy() for view in made]

    return views


def _psnr_db(loader: Loader, views: _Views) -> float:
    """PSNR of the worst view of the first video against the reference engine."""
    plan = next(loader.plans(0))
    plan = loader.planner.plan(plan.rows[:1], plan.epochs[:1])
    size, frames = loader.spec.size_px, loader.spec.num_frames
    oracle = np.zeros((loader.spec.num_views, frames, size, size, 3), np.float32)
    with ShardReader(loader.manifest) as reader:
        ours = views(plan, reader)
        reference.render_video(reader.read(int(plan.rows[0])), plan, 0, [oracle])
    errors = [
        float(np.square(one.astype(np.float64) - other).mean())
        for one, other in zip(ours, oracle, strict=True)
    ]
    return float(-10 * np.log10(max(*errors, 1e-12)))


def _pids() -> list[int]:
    return [os.getpid(), *(child.pid or 0 for child in multiprocessing.active_children())]


def _cpu_s() -> float:
    """User + system seconds of this process and its workers so far."""
    total = time.process_time()
    for pid in _pids()[1:]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / _CLOCK_HZ
    return total


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
