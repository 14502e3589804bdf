"""The inputs of a DALI pipeline: the videos of a batch and the numbers of its plan.

The inputs of a batch are kept until its views are ready, so that a new pipeline can get them again
without the bad sample.
"""

from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from loaders.decode import DecodeError
from loaders.engines.dali.graph import Inputs
from loaders.engines.engine import StageTimes
from loaders.plan.draw import Plan
from loaders.yuv import BT601_TO_BT709
from shards.reader import ShardError


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
    times: StageTimes


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
    loading: "dict[int, Future[Sample]]"
    samples: dict[int, Sample] = field(default_factory=dict)
    errors: dict[int, DecodeError | ShardError] = field(default_factory=dict)
    times: StageTimes = field(default_factory=StageTimes)

    def wait(self) -> None:
        """Returns when every sample has been read or has failed."""
        for b, future in self.loading.items():
            try:
                self.samples[b] = future.result()
                self.times += self.samples[b].times
            except (DecodeError, ShardError) as error:
                self.errors[b] = error
        self.loading = {}

    def inputs(self, rows: list[int]) -> Inputs:
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
