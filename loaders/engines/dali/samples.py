"""The inputs of a DALI pipeline: the videos of a batch and the numbers of its plan.

The inputs of a batch are kept until its views are ready, so that a new pipeline can get them again
without the bad sample.
"""

import math
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from loaders.engines.engine import WorkTimes
from loaders.plan.draw import Plan
from loaders.yuv import BT601_TO_BT709
from shards.decode.packet_decoder import DecodeError
from shards.reader import ShardError

if TYPE_CHECKING:
    from loaders.engines.dali.graph import Inputs  # it imports DALI


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One video that has been read.

    Attributes:
        data: A file, uint8; or its (F, H, W, 3) pictures where DALI does not decode.
        frames: (F,) int32, the numbers of the frames that the views show, ascending.
        first: The number of the file's first frame: 0, or that of the window.
        is_wrong_bt709: Whether its colours come out wrong. DALI treats all YUV as BT.601, so this
            is true for a BT.709 file that DALI decodes.
        times: Seconds that reading (and decoding) took.
    """

    data: np.ndarray
    frames: np.ndarray
    first: int
    is_wrong_bt709: bool
    times: WorkTimes


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """A sample whose data lie in the memory of its batch.

    Attributes:
        begin: Where the data begin, bytes.
        shape: Their shape.
        frames: As in `Sample`.
        first: As in `Sample`.
        is_wrong_bt709: As in `Sample`.
    """

    begin: int
    shape: tuple[int, ...]
    frames: np.ndarray
    first: int
    is_wrong_bt709: bool


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """A batch that has been read; attributes are those of `SampleBatch`."""

    plan: Plan
    samples: dict[int, PackedSample]
    errors: dict[int, DecodeError | ShardError]
    times: WorkTimes


@dataclass(kw_only=True)
class SampleBatch:
    """A plan on its way through DALI.

    Attributes:
        plan: What to render.
        loading: Row of the plan -> its sample, while the sample is being read.
        samples: Row of the plan -> its sample, when it has been read.
        errors: Row of the plan -> why that video is missing.
        times: Seconds spent on it so far.
    """

    plan: Plan
    loading: "dict[int, Future[Sample]]" = field(default_factory=dict)
    samples: dict[int, Sample] = field(default_factory=dict)
    errors: dict[int, DecodeError | ShardError] = field(default_factory=dict)
    times: WorkTimes = field(default_factory=WorkTimes)

    @classmethod
    def unpacked(cls, batch: PackedBatch, memory: np.ndarray) -> "SampleBatch":
        """The batch that was packed into `memory`, without a copy: its samples refer to it."""
        samples = {
            b: Sample(
                data=memory[one.begin : one.begin + math.prod(one.shape)].reshape(one.shape),
                frames=one.frames,
                first=one.first,
                is_wrong_bt709=one.is_wrong_bt709,
                times=WorkTimes(),  # the times of the batch include it
            )
            for b, one in batch.samples.items()
        }
        return cls(plan=batch.plan, samples=samples, errors=batch.errors, times=batch.times)

    def packed(self, memory: np.ndarray) -> PackedBatch:
        """Writes the data of all samples, which have been read, to (N,) uint8 memory."""
        samples, end = {}, 0
        for b, one in self.samples.items():
            begin, end = end, end + one.data.size
            memory[begin:end] = one.data.ravel()  # an error if there is too little room
            samples[b] = PackedSample(
                begin=begin,
                shape=one.data.shape,
                frames=one.frames,
                first=one.first,
                is_wrong_bt709=one.is_wrong_bt709,
            )
        return PackedBatch(plan=self.plan, samples=samples, errors=self.errors, times=self.times)

    def wait(self) -> None:
        """Returns when every sample has been read or has failed."""
        for b, future in self.loading.items():
            try:
                self.samples[b] = future.result()
                self.times += self.samples[b].times
            except (DecodeError, ShardError) as error:
                self.errors[b] = error
        self.loading = {}

    def inputs(self, rows: list[int]) -> "Inputs":
        """The inputs of the graph for these rows of the plan (see `loaders.engines.dali.graph`)."""
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
            "frames": [sample.frames - np.int32(sample.first) for sample in samples],
            "place": np.stack(place).astype(np.int32),
            "crop": crop.astype(np.int32),
            "flip": flip,
            "region": region,
            "color": color,
            "gamma": plan.gamma[rows],
            "erase": np.stack([corners, extents], axis=2).reshape(*flip.shape, 2, -1),
        }
