"""The DALI engine: on a GPU NVDEC decodes and DALI augments; the CPU reads bytes and draws plans.

A DALI pipeline cannot be checkpointed, and one bad sample kills it with all batches in it. So order
and content are decided outside DALI, and a pipeline can be replaced at any time (see `lane`).

On the CPU the same graph runs with DALI's VP8, VP9 and MJPEG decoders, and with pictures from PyAV
for other codecs. This is slow, but it tests everything except NVDEC on a machine without a GPU.
"""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from loaders.engines.dali.caps_cache import caps_cache
from loaders.engines.dali.graph import CPU_CODECS, Graph, return_unused_memory
from loaders.engines.dali.lane import Lane
from loaders.engines.dali.layout import DaliLayout, DaliViews, triton_is_installed, usual_layout
from loaders.engines.dali.memory import engine_bytes
from loaders.engines.dali.nvdec import NvdecError, check_decodable, decoder_caps
from loaders.engines.dali.reading import SampleReader, max_sample_bytes
from loaders.engines.dali.samples import SampleBatch
from loaders.engines.engine import Rendered
from loaders.engines.memory import MB, usual_picture_px
from loaders.plan.draw import Plan
from loaders.plan.views import ViewSpec
from shards.decode.planes import PLANAR_420
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.format.video import ColorMatrix
from shards.reader import ShardReader


def open_dali_engine(
    manifest: Manifest,
    rows: np.ndarray,
    spec: ViewSpec,
    *,
    dtype: str,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    layout: DaliLayout | DaliViews,
) -> "DaliEngine":
    """The engine for a manifest's `rows`.

    If `layout` says only what makes the views, the rest of the layout is one that suits the device.

    Raises:
        InputError: The decoder of this GPU does not take the videos, or Triton is missing.
    """
    views = layout.views if isinstance(layout, DaliLayout) else layout
    if views == DaliViews.KERNEL and not triton_is_installed():
        raise InputError(
            "views is 'kernel', and Triton is not installed: pip install 'timebalance[dali]', or "
            "choose operators"
        )
    codecs = set(manifest.codecs[rows].tolist())
    if device.type == "cuda":
        try:
            check_decodable(manifest, rows, partial(decoder_caps, device))
            num_decoders = max(1, *(decoder_caps(device, codec).num_decoders for codec in codecs))
        except NvdecError as error:
            raise InputError(f"engine dali on {device}: {error}; or choose fused") from error
        caps_cache()  # before DALI opens the driver's library
        decodes, usual = True, usual_layout(num_decoders, batch_size, DaliViews(views))
    else:
        num_decoders = 1
        formats = set(manifest.pixel_formats[rows].tolist())
        decodes = codecs <= CPU_CODECS and formats <= PLANAR_420
        usual = DaliLayout(num_pipelines=1, depth=2, num_threads=num_workers, views=views)
    return DaliEngine(
        spec=spec,
        is_bt709=manifest.color_matrices == ColorMatrix.BT709,
        picture_px=usual_picture_px(manifest, rows),
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        decodes=decodes,
        sample_bytes=max_sample_bytes(manifest, rows, spec, decodes=decodes),
        num_workers=num_workers,
        num_decoders=num_decoders,
        layout=layout if isinstance(layout, DaliLayout) else usual,
    )


@dataclass(kw_only=True, eq=False)
class DaliEngine:
    """Executes plans of one `ViewSpec` in DALI pipelines that take turns.

    Attributes:
        spec: The views.
        is_bt709: (number of rows in the manifest,) bool, whether the video is BT.709.
        picture_px: Pixels of a usual picture, from which memory is predicted.
        dtype: NumPy's name of the views' type.
        device: Where DALI computes and the views end up.
        batch_size: Largest number of rows of a plan.
        decodes: Whether DALI decodes; otherwise PyAV does, and DALI gets pictures.
        sample_bytes: Bytes that DALI gets for one video, at most.
        num_workers: Threads that read, and decode where DALI does not.
        num_decoders: Video decoders on the GPU; 1 on the CPU.
        layout: The number of pipelines, of batches and threads in each, and what makes the views.
    """

    spec: ViewSpec
    is_bt709: np.ndarray
    picture_px: float
    dtype: str
    device: torch.device
    batch_size: int
    decodes: bool
    sample_bytes: int
    num_workers: int
    num_decoders: int
    layout: DaliLayout
    _idle_lanes: list[Lane] = field(default_factory=list, init=False, repr=False)
    _samples: SampleReader = field(init=False, repr=False)
    _is_closed: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self._samples = SampleReader(
            is_bt709=self.is_bt709,
            decodes=self.decodes,
            batch_size=self.batch_size,
            sample_bytes=self.sample_bytes,
            num_workers=self.num_workers,
        )

    @property
    def num_batches_ahead(self) -> int:
        """See `Engine`: how many batches are read, or decoded by PyAV, before DALI needs them."""
        return self._samples.num_batches_ahead

    def run(self, reader: ShardReader, plans: Iterator[Plan]) -> Generator[Rendered]:
        """See `Engine`; the views are on the device."""
        return self.render(self._samples.batches(reader, plans))

    def render(self, batches: Generator[SampleBatch]) -> Generator[Rendered]:
        """Yields one `Rendered` for each batch that has been read. It closes `batches`."""
        lanes = [self._lane() for _ in range(self.layout.num_pipelines)]
        running: deque[Lane] = deque()  # of the batches in DALI, oldest first
        try:
            with closing(batches):
                for number, batch in enumerate(batches):
                    running.append(lanes[number % len(lanes)])
                    running[-1].submit(batch)
                    if len(running) == self.layout.num_batches:
                        yield running.popleft().collect()
            while running:
                yield running.popleft().collect()
        finally:
            # A lane with batches in it is thrown away, because the next run cannot use them.
            if not self._is_closed:
                self._idle_lanes += [lane for lane in lanes if lane.is_idle]

    @property
    def synchronizes_gpu(self) -> bool:
        """See `Engine`. DALI waits for the GPU whenever it frees a batch that was handed over."""
        return self.device.type == "cuda"

    def memory_mb(self) -> float:
        """See `Engine`; on the device."""
        decodes_on_gpu = self.decodes and self.device.type == "cuda"
        num_threads = self.layout.num_threads * self.layout.num_pipelines
        return (
            engine_bytes(
                self.spec,
                dtype=self.dtype,
                layout=self.layout,
                picture_px=self.picture_px,
                batch_size=self.batch_size,
                num_decoding_threads=num_threads * decodes_on_gpu,
            )
            / MB
        )

    def read(self, reader: ShardReader, plan: Plan) -> SampleBatch:
        """The videos of a plan, as they go into a graph."""
        batch = self._samples.begin(reader, plan)
        batch.wait()
        return batch

    def graph(self, num_threads: int, depth: int, until: str | None = None) -> Graph:
        """A graph of this engine's views; `until` is as in `Graph`."""
        return Graph(
            self.spec,
            dtype=self.dtype,
            device=self.device,
            decodes=self.decodes,
            batch_size=self.batch_size,
            num_threads=num_threads,
            depth=depth,
            until=until,
        )

    def close(self) -> None:
        """See `Engine`."""
        self._is_closed = True
        self._idle_lanes.clear()
        return_unused_memory()
        self._samples.close()

    def _lane(self) -> Lane:
        if self._idle_lanes:
            return self._idle_lanes.pop()
        return Lane(
            # The kernel begins with the decoded pictures.
            partial(
                self.graph,
                self.layout.num_threads,
                until="decode" if self.layout.views == DaliViews.KERNEL else None,
            ),
            self.layout.depth,
            self.spec,
            dtype=self.dtype,
            device=self.device,
            decodes=self.decodes,
            views=self.layout.views,
        )
