"""The frames that each view shows: where the window starts, and what follows the last frame.

Which offsets from the start a stage shows (64 frames for pretraining) is in `stage_views`.
"""

import numpy as np

from loaders.plan.views import Start, ViewSpec


def frame_numbers(
    spec: ViewSpec, num_frames: np.ndarray, window_u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The frames of all views.

    Args:
        spec: The stage's views.
        num_frames: (B,) int64 frames of each video, 1 or more.
        window_u: (B,) uniform draws in [0, 1) that place the window.

    Returns:
        (B, V, T) int64 frame numbers in [0, num_frames), and (B,) bool: True where the window ran
        past the video's end and was reflected.
    """
    counts = num_frames[:, None, None]
    if spec.whole:
        raw = _one_of_each_segment(spec, num_frames, window_u)
    else:
        raw = _starts(spec, num_frames, window_u)[:, :, None] + spec.offsets[None]
    return reflect(raw, counts), np.asarray((raw >= counts).any(axis=(1, 2)))


def reflect(index: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
    """Folds frame numbers past the end back: ..., n-2, n-1, n-2, ..., 1, 0, 1, ...

    With reflection, neighbouring frames stay neighbours. A loop would jump, repetition would stop.
    """
    period = np.maximum(2 * (num_frames - 1), 1)
    folded = index % period
    return np.asarray(np.where(folded >= num_frames, period - folded, folded))


def _starts(spec: ViewSpec, num_frames: np.ndarray, window_u: np.ndarray) -> np.ndarray:
    """(B, V) first frame of each view's window."""
    last = np.maximum(num_frames - spec.window, 0)
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
