"""The views of the method's stages, and the published augmentation.

Each function returns a `ViewSpec`. `NAMED_VIEWS` has them under the names that `open_loader` takes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from loaders.plan.normalization import Normalization, named_normalization
from loaders.plan.views import Augment, Start, ViewGroup, ViewSpec
from shards.errors import InputError

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
# Our own values, for the teacher's view of a clip whose strong view the student gets.
WEAK_AUGMENT = Augment(crop_scale=(0.8, 1.0), flip_p=0.5)
EVAL_CROP_SCALE = 0.8


def _clip(num_frames: int, stride: int | None, stride_s: float | None) -> np.ndarray:
    """(num_frames,) int64 offsets of one clip, in frames or, with `stride_s`, in steps of it.

    With neither, only their number counts (`ViewSpec.whole`).
    """
    if stride is not None and stride_s is not None:
        raise InputError(
            f"stride={stride} and stride_s={stride_s} are both given: make one of them None"
        )
    step = 1 if stride is None else stride
    if num_frames < 1 or step < 1:
        raise InputError(f"num_frames={num_frames}, stride={step}: both must be 1 or more")
    return np.arange(num_frames) * step


def _clips_in_a_row(
    num_clips: int, num_frames: int, stride: int | None, stride_s: float | None
) -> np.ndarray:
    """(num_clips, num_frames) int64 offsets of clips without gap or overlap, as in `_clip`."""
    if stride is None and stride_s is None:
        raise InputError("stride and stride_s are both None: give one of them")
    clip = _clip(num_frames, stride, stride_s)
    return clip + np.arange(num_clips)[:, None] * num_frames * (stride or 1)


def _rows(offsets: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, offsets.tolist()))


def pretrain(
    *,
    num_frames: int = 16,
    stride: int | None = 1,
    stride_s: float | None = None,
    size_px: int = 112,
    num_slices: int = 4,
    augment: Augment = PRETRAIN_AUGMENT,
) -> ViewSpec:
    """2 long and 2 x `num_slices` short views of one window, for L_I and L_D.

    A short view has `num_frames` frames at `stride` (or every `stride_s` seconds), and the short
    views tile the window without overlap. A long view has `num_frames` frames over the whole
    window. The defaults give the paper's 64-frame window: long views at stride 4, short views
    contiguous.
    """
    short = _rows(_clips_in_a_row(num_slices, num_frames, stride, stride_s))
    (long,) = _rows(_clip(num_frames, stride, stride_s)[None] * num_slices)
    return ViewSpec(
        name="pretrain",
        groups=(
            ViewGroup(name="long", shape=(2,), offsets=(long, long)),
            ViewGroup(name="short", shape=(2, num_slices), offsets=short + short),
        ),
        size_px=size_px,
        start=Start.RANDOM,
        window=num_frames * (stride or 1) * num_slices,
        stride_s=stride_s,
        augment=augment,
    )


def finetune(
    *,
    num_frames: int = 8,
    stride: int | None = 2,
    stride_s: float | None = None,
    size_px: int = 224,
    augment: Augment = FINETUNE_AUGMENT,
) -> ViewSpec:
    """One augmented clip per video, for fine-tuning and the student.

    Its frames are `stride` frames or `stride_s` seconds apart. With both None it spans the whole
    video (see `ViewSpec.whole`).
    """
    (clip,) = _rows(_clip(num_frames, stride, stride_s)[None])
    return ViewSpec(
        name="finetune",
        groups=(ViewGroup(name="clip", shape=(), offsets=(clip,)),),
        size_px=size_px,
        start=Start.RANDOM,
        window=clip[-1] + 1,
        stride_s=stride_s,
        whole=stride is None and stride_s is None,
        augment=augment,
    )


def weak_strong(
    *,
    num_frames: int = 8,
    stride: int | None = 2,
    stride_s: float | None = None,
    size_px: int = 224,
    weak: Augment = WEAK_AUGMENT,
    strong: Augment = PRETRAIN_AUGMENT,
) -> ViewSpec:
    """One clip twice, weakly and strongly augmented: a pair for the student's unlabelled stream."""
    clip = finetune(num_frames=num_frames, stride=stride, stride_s=stride_s, size_px=size_px)
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
    *,
    num_frames: int = 16,
    stride: int | None = 1,
    stride_s: float | None = None,
    size_px: int = 112,
    num_clips: int = 4,
) -> ViewSpec:
    """`num_clips` consecutive clips from the middle of the video, not augmented."""
    offsets = _rows(_clips_in_a_row(num_clips, num_frames, stride, stride_s))
    return ViewSpec(
        name="similarity",
        groups=(ViewGroup(name="clips", shape=(num_clips,), offsets=offsets),),
        size_px=size_px,
        start=Start.CENTRE,
        window=num_frames * (stride or 1) * num_clips,
        stride_s=stride_s,
        augment=Augment(crop_scale=(EVAL_CROP_SCALE, EVAL_CROP_SCALE)),
    )


def evaluation(
    *,
    num_frames: int = 8,
    stride: int | None = 2,
    stride_s: float | None = None,
    size_px: int = 224,
    num_clips: int = 10,
    num_crops: int = 1,
) -> ViewSpec:
    """`num_clips` clips with 1 or 3 crops each, spaced evenly from the first to the last start.

    With `stride` and `stride_s` None, each clip spans the whole video and shows another place of
    each stretch.
    """
    (clip,) = _rows(_clip(num_frames, stride, stride_s)[None])
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
        start=Start.EVEN,
        window=clip[-1] + 1,
        stride_s=stride_s,
        whole=stride is None and stride_s is None,
        augment=Augment(crop_scale=(EVAL_CROP_SCALE, EVAL_CROP_SCALE)),
        num_crops=num_crops,
    )


NAMED_VIEWS: dict[str, Callable[[], ViewSpec]] = {
    "pretrain": pretrain,
    "finetune": finetune,
    "student": finetune,
    "student_pair": weak_strong,
    "similarity": similarity,
    "eval": evaluation,
}


def view_spec(
    views: str | ViewSpec,
    size_px: int | None = None,
    normalization: str | Normalization | None = None,
) -> ViewSpec:
    """The `ViewSpec` of a name, or the given spec, with some values replaced.

    Args:
        views: A name in `NAMED_VIEWS`, or a spec.
        size_px: Replaces its size. None leaves it.
        normalization: Replaces its normalization: a `Normalization`, its name, or "none". None
            leaves it.

    Raises:
        InputError: There are no views or normalization of that name.
    """
    if isinstance(views, str) and views not in NAMED_VIEWS:
        raise InputError(f"no views {views!r}: choose one of {', '.join(NAMED_VIEWS)}")
    spec = NAMED_VIEWS[views]() if isinstance(views, str) else views
    if size_px is not None:
        spec = replace(spec, size_px=size_px)
    if normalization is not None:
        spec = replace(spec, normalization=named_normalization(normalization))
    return spec
