"""Which clips a stage cuts from a video, and how each may be augmented.

One `ViewSpec` describes a stage's input completely: a table of frame offsets, where the window (or
each clip) starts, the output size and the ranges of the augmentation. It holds no randomness.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from shards.errors import InputError

Range = tuple[float, float]
IDENTITY: Range = (1.0, 1.0)
# Places for erased rectangles in a plan: fixed, so that one view's draws never shift another's.
MAX_ERASE = 4
Start = Literal["random", "centre", "even"]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Ranges and probabilities of one view's augmentation; the defaults change nothing.

    Factors are multiplicative (1 = unchanged), drawn uniformly from their range with probability
    `*_p`. `crop_scale` is the share of both height and width that the crop keeps. `hue` is the
    largest rotation, as a share of a full turn. `gamma_p` is given greyscale. Erased rectangles
    measure [1/6, 1/3) of the output's height, and of its width likewise.
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


# Values of the published training (supplement B; see docs/method.md).
PRETRAIN_AUGMENT = Augment(
    crop_scale=(0.5, 1.0),
    contrast=(0.75, 1.25),
    contrast_p=0.25,
    brightness=(0.75, 1.25),
    saturation=(0.75, 1.25),
    hue=0.1,
    color_p=0.3,
    grey_p=0.175,
    gamma=(0.75, 1.25),
    gamma_p=0.75,
    drop_channel_p=0.125,
    flip_p=0.5,
    num_erase=1,
    erase_p=0.7,
)
FINETUNE_AUGMENT = Augment(
    crop_scale=(0.4, 1.0),
    contrast=(0.9, 1.1),
    contrast_p=0.125,
    brightness=(0.9, 1.1),
    saturation=(0.9, 1.1),
    hue=0.05,
    color_p=0.15,
    grey_p=0.1,
    gamma=(0.85, 1.15),
    gamma_p=0.75,
    flip_p=0.5,
    num_erase=2,
    erase_p=0.4,
)
# Ours: what a teacher sees where the student sees the strong view of the same clip.
WEAK_AUGMENT = Augment(crop_scale=(0.8, 1.0), flip_p=0.5)
EVAL_CROP_SCALE = 0.8


@dataclass(frozen=True, kw_only=True)
class ViewGroup:
    """Views of one kind, stacked along `shape`.

    Attributes:
        name: Key in `Batch.views`.
        shape: Leading shape of the group, e.g. (2, 4) for 2 augmentations x 4 times.
        offsets: For each view of the group in C order, the frame offsets from its start.
        augment: How the group's views are augmented; None for the spec's way.
    """

    name: str
    shape: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if int(np.prod(self.shape)) != len(self.offsets):
            raise ValueError(f"group {self.name}: shape {self.shape}, {len(self.offsets)} views")
        if len({len(row) for row in self.offsets}) != 1:
            raise ValueError(f"group {self.name}: all views of a group have the same length")


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """Everything a stage wants from one video.

    Attributes:
        name: For messages and for the plan's key.
        groups: The views. All groups have the same number of frames per view.
        size_px: Height and width of every output view.
        start: "random" (one window, uniform), "centre" (one window), or "even" (each clip of the
            group's first axis starts at its own place, evenly from first to last possible).
        window: Frames that one start position needs.
        augment: Drawn independently for each view, unless its group has its own.
        crop_positions: With a fixed crop: 1 (centre) or 3 along the longer side, the group's
            last axis.
        whole: Each view shows the whole video, whatever its length or rate: one frame from each of
            as many equal segments as it has frames (the segments of TSN), all at the same place
            in their segment. `start` says which place; the offsets count for nothing.
    """

    name: str
    groups: tuple[ViewGroup, ...]
    size_px: int
    start: Start
    window: int
    augment: Augment = field(default_factory=Augment)
    crop_positions: int = 1
    whole: bool = False

    def __post_init__(self) -> None:
        if self.size_px < 8:
            raise InputError(f"size_px is {self.size_px}: give 8 or more")
        if self.crop_positions not in (1, 3):
            raise InputError(f"crops is {self.crop_positions}: give 1 or 3")
        if len({len(group.offsets[0]) for group in self.groups}) != 1:
            raise ValueError(f"{self.name}: groups differ in frames per view")

    @property
    def num_views(self) -> int:
        """Views per video, over all groups."""
        return sum(len(group.offsets) for group in self.groups)

    @property
    def num_frames(self) -> int:
        """Frames per view."""
        return len(self.groups[0].offsets[0])

    def augment_of(self, group: ViewGroup) -> Augment:
        """How the group's views are augmented."""
        return group.augment or self.augment

    def offsets(self) -> np.ndarray:
        """(num_views, num_frames) int64 offsets from each view's start, groups in order."""
        return np.array([row for group in self.groups for row in group.offsets], dtype=np.int64)


def _check_clip(num_frames: int, stride: int) -> None:
    if num_frames < 1 or stride < 1:
        raise InputError(f"num_frames={num_frames}, stride={stride}: both must be 1 or more")


def _clip(num_frames: int, stride: int | None) -> tuple[int, ...]:
    """Frame offsets of one clip; over the whole video (stride None) only their number counts."""
    _check_clip(num_frames, 1 if stride is None else stride)
    return tuple(int(x) for x in np.arange(num_frames) * (stride or 1))


def pretrain(
    *,
    num_frames: int = 16,
    stride: int = 1,
    size_px: int = 112,
    num_slices: int = 4,
    augment: Augment = PRETRAIN_AUGMENT,
) -> ViewSpec:
    """2 long and 2 x `num_slices` short views of one window, for L_I and L_D.

    A short view has `num_frames` frames at `stride`; the short views tile the window without
    overlap; a long view has `num_frames` frames over the whole window. With the defaults that is
    the paper's 64-frame window: long at stride 4, short contiguous.
    """
    _check_clip(num_frames, stride)
    clip = np.arange(num_frames) * stride
    long = tuple(map(int, clip * num_slices))
    short = tuple(tuple(int(x) for x in clip + c * num_frames * stride) for c in range(num_slices))
    return ViewSpec(
        name="pretrain",
        groups=(
            ViewGroup(name="long", shape=(2,), offsets=(long, long)),
            ViewGroup(name="short", shape=(2, num_slices), offsets=short + short),
        ),
        size_px=size_px,
        start="random",
        window=num_frames * stride * num_slices,
        augment=augment,
    )


def finetune(
    *,
    num_frames: int = 8,
    stride: int | None = 2,
    size_px: int = 224,
    augment: Augment = FINETUNE_AUGMENT,
) -> ViewSpec:
    """One augmented clip per video: fine-tuning and the student.

    With stride None it spans the whole video (see `ViewSpec.whole`).
    """
    clip = _clip(num_frames, stride)
    return ViewSpec(
        name="finetune",
        groups=(ViewGroup(name="clip", shape=(), offsets=(clip,)),),
        size_px=size_px,
        start="random",
        window=clip[-1] + 1,
        whole=stride is None,
        augment=augment,
    )


def weak_strong(
    *,
    num_frames: int = 8,
    stride: int | None = 2,
    size_px: int = 224,
    weak: Augment = WEAK_AUGMENT,
    strong: Augment = PRETRAIN_AUGMENT,
) -> ViewSpec:
    """One clip twice, weakly and strongly augmented: a pair for the student's unlabelled stream."""
    clip = finetune(num_frames=num_frames, stride=stride, size_px=size_px)
    (group,) = clip.groups
    return replace(
        clip,
        name="weak_strong",
        groups=(
            replace(group, name="weak", augment=weak),
            replace(group, name="strong", augment=strong),
        ),
    )


def similarity(
    *, num_frames: int = 16, stride: int = 1, size_px: int = 112, num_clips: int = 4
) -> ViewSpec:
    """`num_clips` consecutive clips from the middle of the video, not augmented."""
    _check_clip(num_frames, stride)
    clip = np.arange(num_frames) * stride
    offsets = tuple(tuple(int(x) for x in clip + c * num_frames * stride) for c in range(num_clips))
    return ViewSpec(
        name="similarity",
        groups=(ViewGroup(name="clips", shape=(num_clips,), offsets=offsets),),
        size_px=size_px,
        start="centre",
        window=num_frames * stride * num_clips,
        augment=Augment(crop_scale=(EVAL_CROP_SCALE, EVAL_CROP_SCALE)),
    )


def evaluation(
    *,
    num_frames: int = 8,
    stride: int | None = 2,
    size_px: int = 224,
    num_clips: int = 10,
    num_crops: int = 1,
) -> ViewSpec:
    """`num_clips` clips, starts evenly from the first to the last possible, x 1 or 3 crops.

    With stride None each clip spans the whole video, at a place of its own in the segments.
    """
    clip = _clip(num_frames, stride)
    return ViewSpec(
        name="eval",
        groups=(
            ViewGroup(
                name="clips",
                shape=(num_clips, num_crops),
                offsets=(clip,) * (num_clips * num_crops),
            ),
        ),
        size_px=size_px,
        start="even",
        window=clip[-1] + 1,
        whole=stride is None,
        augment=Augment(crop_scale=(EVAL_CROP_SCALE, EVAL_CROP_SCALE)),
        crop_positions=num_crops,
    )


PRESETS: dict[str, Callable[[], ViewSpec]] = {
    "pretrain": pretrain,
    "finetune": finetune,
    "student": finetune,
    "student_pair": weak_strong,
    "similarity": similarity,
    "eval": evaluation,
}


def view_spec(views: "str | ViewSpec", size_px: int | None = None) -> ViewSpec:
    """A `ViewSpec` from a preset's name, or the spec itself; `size_px` overrides its size."""
    if isinstance(views, str) and views not in PRESETS:
        raise InputError(f"no views preset {views!r}: choose one of {', '.join(PRESETS)}")
    spec = PRESETS[views]() if isinstance(views, str) else views
    return spec if size_px is None else replace(spec, size_px=size_px)
