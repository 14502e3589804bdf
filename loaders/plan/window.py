"""The frames that each view shows: where the window starts, and what follows the last frame.

`stage_views` says which offsets from the start a stage shows (64 frames for pretraining).

With `ViewSpec.stride_s`, an offset of k steps is floor(k * stride_s * fps + 1/2) frames: the
nearest frame, and of two that are equally near, the later one. A window of w steps ends with the
frame of its last step, w - 1. So a clip with a `stride_s` of n / fps shows what it shows with a
stride of n frames. The rate is that of the video's row. Every frame counts as 1 / fps long, also in
a file of a variable rate.
"""

import numpy as np

from loaders.plan.views import Start, ViewSpec
from shards.errors import InputError


def check_stride_s(spec: ViewSpec, fps: float, video: str) -> None:
    """Raises InputError if a step of `spec.stride_s` rounds to no frame at all.

    Args:
        spec: The views.
        fps: The video's frames per second, more than 0.
        video: The video's name, for the error.
    """
    if spec.stride_s is not None and spec.stride_s * fps < 0.5:
        raise InputError(
            f"stride_s is {spec.stride_s:g}, which is less than half a frame of {video} at"
            f" {fps:g} frames per second: give {1 / fps:.3g} or more"
        )


def frame_numbers(
    spec: ViewSpec, num_frames: np.ndarray, fps: np.ndarray | None, window_u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The frames of all views.

    Args:
        spec: The stage's views.
        num_frames: (B,) int64 frames of each video, 1 or more.
        fps: (B,) float64 frames per second of each video; None only without `spec.stride_s`.
        window_u: (B,) uniform draws in [0, 1) that place the window.

    Returns:
        (B, V, T) int64 frame numbers in [0, num_frames), and (B,) bool: True where the window ran
        past the video's end and was reflected.
    """
    counts = num_frames[:, None, None]
    if spec.whole:
        raw = _one_of_each_segment(spec, num_frames, window_u)
    else:
        windows = frames_after(spec, np.array([spec.window - 1]), fps)[:, 0] + 1
        starts = _starts(spec, num_frames, windows, window_u)
        raw = starts[:, :, None] + frames_after(spec, spec.offsets, fps)
    return reflect(raw, counts), np.asarray((raw >= counts).any(axis=(1, 2)))


def frames_after(spec: ViewSpec, offsets: np.ndarray, fps: np.ndarray | None) -> np.ndarray:
    """Offsets in frames of each video.

    Args:
        spec: The views.
        offsets: (...) int64 offsets as in the spec.
        fps: (B,) float64 frames per second of each video; None only without `spec.stride_s`.

    Returns:
        (B, ...) int64; (1, ...) where they are the same for every video.
    """
    if spec.stride_s is None:
        return offsets[None]
    if fps is None:
        raise ValueError("stride_s needs the frame rate of each video")
    frames_per_step = np.reshape(spec.stride_s * fps, (-1, *[1] * offsets.ndim))
    return np.floor(offsets * frames_per_step + 0.5).astype(np.int64)


def reflect(index: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
    """Folds frame numbers past the end back: ..., n-2, n-1, n-2, ..., 1, 0, 1, ...

    With reflection, neighbouring frames stay neighbours. A loop would jump from the last frame to
    the first, and repeating the last frame would stop all motion.
    """
    period = np.maximum(2 * (num_frames - 1), 1)
    folded = index % period
    return np.asarray(np.where(folded >= num_frames, period - folded, folded))


def _starts(
    spec: ViewSpec, num_frames: np.ndarray, windows: np.ndarray, window_u: np.ndarray
) -> np.ndarray:
    """(B, V) first frame of each view's window, given the frames that a window takes."""
    last = np.maximum(num_frames - windows, 0)
    if spec.start == Start.EVEN:
        num_clips = spec.groups[0].shape[0]
        share = np.linspace(0.0, 1.0, num_clips) if num_clips > 1 else np.array([0.5])
        starts = np.rint(last[:, None] * share[None]).astype(np.int64)
        return np.repeat(starts, spec.num_views // num_clips, axis=1)
    share_of_last = window_u * (last + 1) if spec.start == Start.RANDOM else last / 2
    start = np.minimum(share_of_last.astype(np.int64), last)
    return np.repeat(start[:, None], spec.num_views, axis=1)


def _one_of_each_segment(
    spec: ViewSpec, num_frames: np.ndarray, window_u: np.ndarray
) -> np.ndarray:
    """(B, V, T): as many equal segments as a view has frames, one frame from each."""
    phases = np.full((len(num_frames), spec.num_views), 0.5)
    if spec.start == Start.RANDOM:
        phases[:] = window_u[:, None]
    elif spec.start == Start.EVEN:
        num_clips = spec.groups[0].shape[0]
        phases[:] = np.repeat((np.arange(num_clips) + 0.5) / num_clips, spec.num_views // num_clips)
    share = (np.arange(spec.num_frames) + phases[:, :, None]) / spec.num_frames
    return np.asarray((share * num_frames[:, None, None]).astype(np.int64))
