"""The DALI engine: on a GPU NVDEC decodes and DALI augments; the CPU reads bytes and draws plans.

Order and content are kept outside DALI, because a DALI pipeline keeps neither: it cannot be
checkpointed, and one bad sample kills it with all batches in it. Here a pipeline is a thing that
may be thrown away. A batch's inputs are kept until its views are out, so that a new pipeline can be
given them again, without the sample at fault.

On the CPU the same graph runs on DALI's own VP8, VP9 and MJPEG decoding, or on pictures from PyAV
for all else: slow, but it proves everything except NVDEC where there is no GPU.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from loaders.decode import (
    BT601_TO_BT709,
    PLANAR_420,
    DecodeError,
    decode_frames,
    read_header,
)
from loaders.engines.dali.graph import CPU_CODECS, Graph, Inputs
from loaders.engines.dali.nvdec import NvdecError, check_decodable, decoder_caps
from loaders.engines.dali.tuning import Tuning, candidates, choose, measure
from loaders.engines.reference import frame_to_rgb
from loaders.engines.threads import Rendered, StageTimes
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardError, ShardReader

# Batches that are read (and decoded by PyAV) ahead of those inside DALI.
_READ_AHEAD = 2


def dali_pipeline(
    manifest: Manifest,
    rows: np.ndarray,
    spec: ViewSpec,
    *,
    dtype: str,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    tuning: Tuning | None = None,
) -> "DaliPipeline":
    """The engine for a manifest's `rows`, which are looked at first.

    Raises:
        InputError: This GPU's decoder does not take them.
    """
    formats = _pixel_formats(manifest, rows)
    if device.type == "cuda":
        try:
            check_decodable(manifest, rows, formats, partial(decoder_caps, device))
            num_engines = max(1, *(decoder_caps(device, c).num_engines for c in formats))
        except NvdecError as error:
            raise InputError(f"engine dali on {device}: {error}; or choose fused") from error
        decodes, usual = True, Tuning(num_pipelines=num_engines, depth=1)
    else:
        num_engines = 1
        decodes = formats.keys() <= CPU_CODECS and set(formats.values()) <= PLANAR_420
        usual = Tuning(num_pipelines=1, depth=2)
    return DaliPipeline(
        spec=spec,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        decodes=decodes,
        num_workers=num_workers,
        num_engines=num_engines,
        tuning=tuning or usual,
    )


def _pixel_formats(manifest: Manifest, rows: np.ndarray) -> dict[str, str]:
    """Codec -> the pixel format of its first video; the manifest does not say."""
    codecs = np.array(manifest.table.column("codec").to_pylist())[rows]
    formats = {}
    with ShardReader(manifest) as reader:
        for codec, first in zip(*np.unique(codecs, return_index=True), strict=True):
            try:
                formats[str(codec)] = read_header(reader.read(int(rows[first]))).pixel_format
            except (DecodeError, ShardError):  # told by name when its turn comes
                formats[str(codec)] = "yuv420p"
    return formats


@dataclass(frozen=True, kw_only=True)
class DaliPipeline:
    """Renders plans of one `ViewSpec` in DALI pipelines that take turns.

    Attributes:
        spec: The views.
        dtype: NumPy's name.
        device: Where DALI computes and the views end up.
        batch_size: Largest number of rows of a plan.
        decodes: Whether DALI decodes; else PyAV does, and DALI gets pictures.
        num_workers: Threads that read (and decode), and as many of DALI's over all pipelines.
        num_engines: Video decoders on the GPU; 1 on the CPU.
        tuning: How many pipelines, how many batches in each.
    """

    spec: ViewSpec
    dtype: str
    device: torch.device
    batch_size: int
    decodes: bool
    num_workers: int
    num_engines: int
    tuning: Tuning
    # Manifest row -> whether it is BT.709, which never changes and takes a millisecond to find out.
    bt709: dict[int, bool] = field(default_factory=dict, repr=False)

    def run(self, reader: ShardReader, plans: Iterator[Plan]) -> Generator[Rendered]:
        """See `loaders.engines.threads.Renderer`; the views are on the device."""
        lanes = [_Lane(self) for _ in range(self.tuning.num_pipelines)]
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="loader")
        running: deque[_Lane] = deque()  # of the batches in DALI, oldest first
        try:
            batches = _ahead((self._start(pool, reader, plan) for plan in plans), _READ_AHEAD)
            for number, batch in enumerate(batches):
                running.append(lanes[number % len(lanes)])
                running[-1].submit(batch)
                if len(running) == self.tuning.num_batches:
                    yield running.popleft().collect()
            while running:
                yield running.popleft().collect()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def tuned(
        self,
        reader: ShardReader,
        plans: Callable[[], Iterator[Plan]],
        gpu_memory_mb: float | None,
    ) -> "DaliPipeline":
        """See `loaders.engines.threads.Renderer`."""
        trials = measure(self, reader, plans, candidates(self.num_engines), gpu_memory_mb)
        return replace(self, tuning=choose(trials, gpu_memory_mb))

    def graph(self, depth: int) -> Graph:
        """A new pipeline for up to `depth` batches at once."""
        return Graph(
            self.spec,
            dtype=self.dtype,
            device=self.device,
            decodes=self.decodes,
            batch_size=self.batch_size,
            num_threads=max(1, self.num_workers // self.tuning.num_pipelines),
            depth=depth,
        )

    def _start(self, pool: ThreadPoolExecutor, reader: ShardReader, plan: Plan) -> "_Batch":
        rows = np.flatnonzero(plan.rows >= 0).tolist()
        loading = {b: pool.submit(self._load, reader, plan, b) for b in rows}
        return _Batch(plan=plan, loading=loading)

    def _load(self, reader: ShardReader, plan: Plan, b: int) -> "_Sample":
        began_s = time.perf_counter()
        row = int(plan.rows[b])
        data = reader.read(row)
        read_s = time.perf_counter()
        frames = np.unique(plan.frames[b])
        if self.decodes:
            if row not in self.bt709:
                self.bt709[row] = read_header(data).is_bt709
            pixels, correction = np.frombuffer(data, np.uint8), self.bt709[row]
        else:
            decoded = dict(decode_frames(data, frames, int(plan.num_frames[b])))
            pixels = np.stack([frame_to_rgb(decoded[k]) for k in range(len(frames))])
            correction = False
        return _Sample(
            data=pixels,
            frames=frames.astype(np.int32),
            is_wrong_bt709=correction,
            times=StageTimes(read_s=read_s - began_s, decode_s=time.perf_counter() - read_s),
        )


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """One video, read: the whole file, or its (F, H, W, 3) pictures, with the (F,) numbers.

    DALI takes all YUV for BT.601, so the colours of a BT.709 file that it decodes come out wrong.
    """

    data: np.ndarray
    frames: np.ndarray
    is_wrong_bt709: bool
    times: StageTimes


@dataclass(kw_only=True)
class _Batch:
    """A plan on its way, its samples by row of the plan: first loading, then here."""

    plan: Plan
    loading: "dict[int, Future[_Sample]]"
    samples: dict[int, _Sample] = field(default_factory=dict)
    errors: dict[int, DecodeError | ShardError] = field(default_factory=dict)
    times: StageTimes = field(default_factory=StageTimes)

    def wait(self) -> None:
        """Until every sample is here or has failed."""
        for b, future in self.loading.items():
            try:
                self.samples[b] = future.result()
                self.times += self.samples[b].times
            except (DecodeError, ShardError) as error:
                self.errors[b] = error
        self.loading = {}

    def inputs(self, rows: list[int]) -> Inputs:
        """What the graph is fed for these rows (see `loaders.engines.dali.graph`)."""
        plan, samples = self.plan, [self.samples[b] for b in rows]
        place = [np.searchsorted(self.samples[b].frames, plan.frames[b]) for b in rows]
        crop = plan.crop[rows].reshape(len(rows), -1, 2, 2)
        region = np.stack([0 * crop[:, :, 1], crop[:, :, 1]], axis=2).astype(np.float32)
        flip = plan.flip[rows]
        region[flip, :, 1] = region[flip, ::-1, 1]
        color = plan.color[rows]
        wrong = [sample.is_wrong_bt709 for sample in samples]
        color[wrong, ..., :3] = color[wrong, ..., :3] @ BT601_TO_BT709
        color[..., :3] /= 255
        corners, extents = np.split(plan.erase[rows].astype(np.float32), 2, axis=-1)
        return {
            "data": [sample.data for sample in samples],
            "frames": [sample.frames for sample in samples],
            "place": np.stack(place).astype(np.int32),
            "crop": crop.astype(np.int32),
            "region": region,
            "color": color,
            "gamma": plan.gamma[rows],
            "erase": np.stack([corners, extents], axis=2).reshape(*flip.shape, 2, -1),
        }


def _ahead(batches: Iterator[_Batch], number: int) -> Iterator[_Batch]:
    """The batches, all here, while the next `number` are being loaded."""
    started: deque[_Batch] = deque()
    for batch in batches:
        started.append(batch)
        if len(started) > number:
            started[0].wait()
            yield started.popleft()
    for batch in started:
        batch.wait()
        yield batch


def _reason(error: Exception) -> str:
    """The line of DALI's report that says what happened."""
    text = str(error)
    first = text.rpartition("encountered:")[2].strip().partition("\n")[0]
    return first.partition(" failed: ")[2] or first or repr(error)


class _Lane:
    """A DALI pipeline, replaced whenever a sample kills it, and its batches, oldest first."""

    def __init__(self, engine: DaliPipeline) -> None:
        self._engine = engine
        self._graph = engine.graph(engine.tuning.depth)
        self._batches: deque[_Batch] = deque()

    def submit(self, batch: _Batch) -> None:
        """Starts work on a batch; a batch without samples needs none."""
        self._batches.append(batch)
        if batch.samples:
            self._graph.submit(batch.inputs(list(batch.samples)))

    def collect(self) -> Rendered:
        """The oldest batch; samples that turn out to be bad are among its errors."""
        began_s = time.perf_counter()
        batch = self._batches[0]
        views = None
        while batch.samples and views is None:
            try:
                views = self._graph.collect()
            except Exception as error:
                self._expel_bad_samples(error)
        self._batches.popleft()
        waited_s = time.perf_counter() - began_s
        # DALI does not tell decoding from augmenting: the wait counts as what weighs more.
        if self._engine.decodes:
            batch.times += StageTimes(decode_s=waited_s)
        else:
            batch.times += StageTimes(augment_s=waited_s)
        return Rendered(
            plan=batch.plan,
            views=self._spread(views, batch),
            errors=batch.errors,
            times=batch.times,
        )

    def _expel_bad_samples(self, error: Exception) -> None:
        """Takes them out of the oldest batch, and starts all batches anew."""
        if self._engine.device.type == "cuda":
            torch.cuda.synchronize(self._engine.device)  # raises where the device itself has failed
        batches, batch = self._batches, self._batches[0]
        reasons = {b: self._fault(batch, b) for b in batch.samples}
        if not any(reasons.values()):
            raise error  # no sample's fault: memory, the driver, a mistake in the graph
        for b, reason in reasons.items():
            if reason:
                batch.errors[b] = DecodeError(reason)
                del batch.samples[b]
        self._graph = self._engine.graph(self._engine.tuning.depth)
        self._batches = deque()
        for again in batches:
            self.submit(again)

    def _fault(self, batch: _Batch, b: int) -> str:
        """Why the sample cannot be rendered even by itself; empty if it can."""
        graph = self._engine.graph(depth=1)
        try:
            graph.submit(batch.inputs([b]))
            graph.collect()
        except Exception as error:
            return _reason(error)
        return ""

    def _spread(self, views: list[torch.Tensor] | None, batch: _Batch) -> list[torch.Tensor]:
        """The samples' views in the rows of the plan, 0 elsewhere; a full batch is passed on."""
        num_rows = len(batch.plan.rows)
        if views is not None and len(batch.samples) == num_rows:
            return views
        engine = self._engine
        clip = (engine.spec.num_frames, engine.spec.size_px, engine.spec.size_px, 3)
        spread = [
            torch.zeros(
                (num_rows, len(group.offsets), *clip),
                dtype=getattr(torch, engine.dtype),
                device=engine.device,
            )
            for group in engine.spec.groups
        ]
        for whole, part in zip(spread, views or [], strict=False):
            whole[list(batch.samples)] = part
        return spread
