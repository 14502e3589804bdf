"""Which clips a stage cuts from a video, and how each may be augmented.

One `ViewSpec` describes a stage's input completely: a table of frame offsets, the start of the
window (or of each clip), the output size and the ranges of the augmentation. It holds no
randomness. The views of the method's stages are in `loaders.plan.stage_views`.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from loaders.plan.normalization import Normalization
from shards.errors import InputError, one_of

Range = tuple[float, float]
IDENTITY: Range = (1.0, 1.0)
# Places for erased rectangles in a plan. The number is fixed, so that the draws of one view never
# shift those of another.
MAX_ERASE = 4
# The longest step from frame to frame. It keeps frame numbers far from the limits of int64.
MAX_STRIDE_S = 3600.0
# `EpochDataset` has these beside the views.
RESERVED_NAMES = frozenset({"labels", "valid"})


class Start(StrEnum):
    """Where the frames of a view begin in the video."""

    RANDOM = "random"
    """One window for all views, at a uniform place."""
    CENTRE = "centre"
    """One window for all views, in the middle."""
    EVEN = "even"
    """The first axis of the group counts clips. Their starts are evenly spaced, from the first to
    the last possible frame."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Ranges and probabilities of one view's augmentation; the defaults change nothing.

    Factors are multiplicative (1 = unchanged), drawn uniformly from their range with probability
    `*_p`. Brightness, saturation and hue share `color_p` but are drawn independently. `crop_scale`
    is the share of both height and width that the crop keeps. The place of the crop is random if
    these bounds differ. If they are equal, the crop is in the centre, or where
    `ViewSpec.num_crops` says. `hue` is the largest rotation, as a share of a full turn.
    `gamma_p` is the probability in a grey view; other views have no gamma. `erase_p` is the
    probability of each of the `num_erase` rectangles, whose sides measure [1/6, 1/3) of the
    output's height and width.
    """

    crop_scale: Range = IDENTITY
    contrast: Range = IDENTITY
    contrast_p: float = 0.0
    brightness: Range = IDENTITY
    saturation: Range = IDENTITY
    hue: float = 0.0
    color_p: float = 0.0
    grey_p: float = 0.0
    gamma: Range = IDENTITY
    gamma_p: float = 0.0
    drop_channel_p: float = 0.0
    flip_p: float = 0.0
    num_erase: int = 0
    erase_p: float = 0.0

    def __post_init__(self) -> None:
        for name in ("contrast_p", "color_p", "grey_p", "gamma_p", "drop_channel_p", "flip_p"):
            _check_share(name, getattr(self, name))
        _check_share("erase_p", self.erase_p)
        for name in ("crop_scale", "contrast", "brightness", "saturation", "gamma"):
            low, high = getattr(self, name)
            if not 0 < low <= high < float("inf"):
                raise InputError(f"{name} is {(low, high)}: give 0 < low <= high")
        if self.crop_scale[1] > 1:
            raise InputError(f"crop_scale is {self.crop_scale}: a crop keeps a share, at most 1")
        if not 0 <= self.hue <= 0.5:
            raise InputError(f"hue is {self.hue}: give a share of a full turn, 0 to 0.5")
        if not 0 <= self.num_erase <= MAX_ERASE:
            raise InputError(f"num_erase is {self.num_erase}: give 0 to {MAX_ERASE}")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}: a probability lies in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class ViewGroup:
    """Views of one kind, stacked along `shape`.

    Attributes:
        name: The key in `Batch.views`; not "labels" or "valid", which `EpochDataset` uses.
        shape: Leading shape of the group, e.g. (2, 4) for 2 augmentations x 4 times.
        offsets: For each view of the group in C order, the offsets of its frames from its start, in
            frames (or in steps of `ViewSpec.stride_s`).
        augment: How the group's views are augmented; None means the spec's `augment`.

    Raises:
        InputError: The name is taken, or the shape and the offsets do not fit together.
    """

    name: str
    shape: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if self.name in RESERVED_NAMES:
            raise InputError(f"group {self.name!r}: the name is taken; choose another one")
        if min(self.shape, default=1) < 1 or math.prod(self.shape) != len(self.offsets):
            raise InputError(
                f"group {self.name!r}: shape is {self.shape}, and offsets has {len(self.offsets)}"
                " views: give a row of offsets for each view"
            )
        lengths = {len(row) for row in self.offsets}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(
                f"group {self.name!r}: offsets has rows of {sorted(lengths)} frames: give all views"
                " of a group the same number, 1 or more"
            )


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """Everything that a stage takes from one video.

    Attributes:
        name: A name for messages.
        groups: The views. All groups have the same number of frames per view.
        size_px: Height and width of every output view.
        start: A `Start`, or its name: "random", "centre" or "even".
        window: Frames that one start position needs (with `stride_s`: the steps that it needs). It
            means nothing with `whole`.
        stride_s: Seconds from one offset to the next, in (0, 3600]. Offsets and `window` then count
            steps of this length and not frames, so videos of different frame rates show the same
            time. `loaders.plan.window` says which frames these are. None: they count frames.
        augment: The augmentation, drawn for each view independently. A group may have another one.
        num_crops: With a fixed crop: 1 (centre) or 3 (start, middle and end of the longer
            side, along the last axis of each group).
        whole: Each view shows the whole video, for any length and rate. The video is cut into as
            many equal stretches as a view has frames (TSN calls them segments). Each gives one
            frame, all from the same place in their stretches. `start` says which place. Only the
            number of offsets counts.
        normalization: The last step of every view; None leaves RGB in [0, 1].

    Raises:
        InputError: A value is out of range, or two of them do not fit together.
    """

    name: str
    groups: tuple[ViewGroup, ...]
    size_px: int
    start: Start | str
    window: int
    stride_s: float | None = None
    augment: Augment = field(default_factory=Augment)
    num_crops: int = 1
    whole: bool = False
    normalization: Normalization | None = None

    def __post_init__(self) -> None:
        if self.size_px < 8:
            raise InputError(f"size_px is {self.size_px}: give 8 or more")
        object.__setattr__(self, "start", one_of(Start, "start", self.start))
        self._check_groups()
        self._check_stride_s()
        if self.start == Start.EVEN and (len(self.groups) > 1 or not self.groups[0].shape):
            raise InputError("start is 'even': give one group, and its shape the number of clips")
        if self.num_crops not in (1, 3):
            raise InputError(f"num_crops is {self.num_crops}: give 1 or 3")
        if self.num_crops == 3:
            self._check_three_crops()

    def _check_groups(self) -> None:
        names = [group.name for group in self.groups]
        if not names or len(set(names)) != len(names):
            raise InputError(
                f"views {self.name}: groups are {names}: give one or more, with different names"
            )
        if len({len(group.offsets[0]) for group in self.groups}) != 1:
            raise InputError(
                f"views {self.name}: groups differ in frames per view: give all the same"
            )
        offsets = self.offsets
        if not self.whole and not 0 <= offsets.min() <= offsets.max() < self.window:
            raise InputError(
                f"views {self.name}: offsets run from {offsets.min()} to {offsets.max()}, and"
                f" window is {self.window}: give offsets from 0 to window - 1"
            )

    def _check_stride_s(self) -> None:
        if self.stride_s is None:
            return
        if not 0 < self.stride_s <= MAX_STRIDE_S:  # NaN is refused too
            raise InputError(
                f"stride_s is {self.stride_s}: give seconds, more than 0 and at most"
                f" {MAX_STRIDE_S:.0f}"
            )
        if self.whole:
            raise InputError(
                f"stride_s is {self.stride_s}, but the views span the whole video: leave it out"
            )

    def _check_three_crops(self) -> None:
        for group, augment in zip(self.groups, self.augments, strict=True):
            low, high = augment.crop_scale
            if group.shape[-1:] != (3,):
                raise InputError(
                    f"num_crops is 3, but group {group.name!r} has shape {group.shape}: end it"
                    " with 3"
                )
            if low != high:
                raise InputError(
                    f"num_crops is 3, but crop_scale is {(low, high)}: give two equal bounds"
                )

    @cached_property
    def num_views(self) -> int:
        """Views per video, over all groups."""
        return sum(len(group.offsets) for group in self.groups)

    @cached_property
    def num_frames(self) -> int:
        """Frames per view."""
        return len(self.groups[0].offsets[0])

    @cached_property
    def augments(self) -> tuple[Augment, ...]:
        """How each group's views are augmented."""
        return tuple(group.augment or self.augment for group in self.groups)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(num_views, num_frames) int64 offsets from each view's start, groups in order."""
        return np.array([row for group in self.groups for row in group.offsets], dtype=np.int64)
