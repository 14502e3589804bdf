"""The views of the method's stages, and the published augmentation.

Each function returns a `ViewSpec`. `PRESETS` has them under the names that `open_loader` takes.
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
# Our own values: for the view of the teacher when the student gets the strong view of a clip.
WEAK_AUGMENT = Augment(crop_scale=(0.8, 1.0), flip_p=0.5)
EVAL_CROP_SCALE = 0.8


def _check_clip(num_frames: int, stride: int) -> None:
    if num_frames < 1 or stride < 1:
        raise InputError(f"num_frames={num_frames}, stride={stride}: both must be 1 or more")


def _clip(num_frames: int, stride: int | None) -> tuple[int, ...]:
    """Frame offsets of one clip; with stride None only their number counts (`ViewSpec.whole`)."""
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

    A short view has `num_frames` frames at `stride`, and the short views tile the window without
    overlap. A long view has `num_frames` frames over the whole window. The defaults give the
    paper's 64-frame window: long views at stride 4, short views contiguous.
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
        start=Start.RANDOM,
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
        start=Start.RANDOM,
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
        start=Start.CENTRE,
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
    """`num_clips` clips, whose starts are even from the first to the last possible, x 1 or 3 crops.

    With stride None each clip spans the whole video and shows another place of each segment.
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
        start=Start.EVEN,
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


def view_spec(
    views: str | ViewSpec,
    size_px: int | None = None,
    normalization: str | Normalization | None = None,
) -> ViewSpec:
    """The `ViewSpec` of a preset's name, or the given spec, with some values replaced.

    Args:
        views: A name in `PRESETS`, or a spec.
        size_px: Replaces its size. None leaves it.
        normalization: Replaces its normalization; a name, or "none". None leaves it.

    Raises:
        InputError: There is no preset or normalization of that name.
    """
    if isinstance(views, str) and views not in PRESETS:
        raise InputError(f"no views preset {views!r}: choose one of {', '.join(PRESETS)}")
    spec = PRESETS[views]() if isinstance(views, str) else views
    if size_px is not None:
        spec = replace(spec, size_px=size_px)
    if normalization is not None:
        spec = replace(spec, normalization=named_normalization(normalization))
    return spec
