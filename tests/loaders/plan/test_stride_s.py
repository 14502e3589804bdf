"""Views whose stride is in seconds, against a slow oracle that walks through one video."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loaders.plan import stage_views
from loaders.plan.draw import Plan, draw_plan
from loaders.plan.views import ViewSpec
from loaders.plan.window import check_stride_s
from shards.errors import InputError

RATES = st.sampled_from([10, 12.5, 15, 24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60])
PRESETS: dict[str, Callable[..., ViewSpec]] = {
    "pretrain": stage_views.pretrain,
    "finetune": stage_views.finetune,
    "weak_strong": stage_views.weak_strong,
    "similarity": stage_views.similarity,
    "evaluation": stage_views.evaluation,
}


def draw(spec: ViewSpec, num_frames: list[int], fps: list[float] | None, seed: int = 0) -> Plan:
    num = len(num_frames)
    return draw_plan(
        spec,
        rows=np.arange(num),
        epochs=np.zeros(num, np.int64),
        num_frames=np.array(num_frames),
        heights=np.full(num, 64),
        widths=np.full(num, 64),
        seed=seed,
        fps=None if fps is None else np.array(fps),
    )


def frame_after(steps: int, stride_s: float, fps: float) -> tuple[int, int]:
    """The frames that may be nearest to a time: two where it is (nearly) half way between them."""
    exact = steps * Fraction(stride_s) * Fraction(fps)
    tie = Fraction(1, 10**9)
    return round(exact - tie), round(exact + tie)


def walk(frame: int, num_frames: int) -> int:
    """Where one is after so many steps from frame 0, turning round at both ends."""
    place, step = 0, 1
    for _ in range(frame):
        if num_frames > 1 and not 0 <= place + step < num_frames:
            step = -step
        place += step if num_frames > 1 else 0
    return place


@given(
    preset=st.sampled_from(sorted(PRESETS)),
    videos=st.lists(st.tuples(st.integers(1, 400), RATES), min_size=1, max_size=4),
    stride_s=st.floats(0.05, 0.4),
    num_frames=st.integers(1, 6),
)
def test_every_view_shows_the_frames_nearest_to_its_times(
    preset: str, videos: list[tuple[int, float]], stride_s: float, num_frames: int
) -> None:
    spec = PRESETS[preset](num_frames=num_frames, stride=None, stride_s=stride_s, size_px=16)
    assert not spec.whole
    plan = draw(spec, [number for number, _ in videos], [fps for _, fps in videos])
    for b, (number, fps) in enumerate(videos):
        # The window ends with the frame of its last step, and lies in the video if there is room.
        length = max(frame_after(spec.window - 1, stride_s, fps)) + 1
        runs_over = False
        for shown, steps in zip(plan.frames[b].tolist(), spec.offsets.tolist(), strict=True):
            start = shown[0] if steps[0] == 0 else None
            if start is None:  # another view of the same window begins at its start
                (first, *_) = np.flatnonzero(spec.offsets[:, 0] == 0)
                start = int(plan.frames[b, first, 0])
            assert 0 <= start <= max(number - length, 0) + 1
            choices = [[start + one for one in frame_after(k, stride_s, fps)] for k in steps]
            runs_over |= max(map(min, choices)) >= number
            for frame, options in zip(shown, choices, strict=True):
                assert frame in {walk(option, number) for option in options}
        assert not runs_over or plan.padded[b]


@given(
    preset=st.sampled_from(["finetune", "weak_strong", "evaluation"]),
    stride=st.integers(1, 6),
    videos=st.lists(st.tuples(st.integers(1, 300), RATES), min_size=1, max_size=3),
    seed=st.integers(0, 2**40),
)
def test_n_frames_in_seconds_are_a_stride_of_n(
    preset: str, stride: int, videos: list[tuple[int, float]], seed: int
) -> None:
    """A plan in seconds is, bit for bit, the plan in frames at that rate."""
    for number, fps in videos:
        in_frames = draw(PRESETS[preset](stride=stride), [number], None, seed)
        in_seconds = PRESETS[preset](stride=None, stride_s=stride / fps)
        found = draw(in_seconds, [number], [fps], seed)
        for name in ("frames", "crop", "color", "padded"):
            np.testing.assert_array_equal(getattr(found, name), getattr(in_frames, name))


@given(stride_s=st.floats(0.02, 0.5), number=st.integers(200, 2000), seed=st.integers(0, 99))
def test_two_rates_show_the_same_times(stride_s: float, number: int, seed: int) -> None:
    """Frame k of a clip is shown k * stride_s after its first one, to half a frame."""
    spec = stage_views.finetune(num_frames=8, stride=None, stride_s=stride_s)
    rates = [25.0, 60.0]
    assume(7 * stride_s * 60 + 0.5 < number)
    plan = draw(spec, [number, number], rates, seed)
    for shown, fps in zip(plan.frames[:, 0], rates, strict=True):
        if shown[-1] < number - 1 and (np.diff(shown) >= 0).all():
            times_s = (shown - shown[0]) / fps
            assert np.abs(times_s - np.arange(8) * stride_s).max() <= 0.5 / fps + 1e-9


def test_of_two_frames_the_later_one_is_shown() -> None:
    """0.1 s are 2.5 frames at 25 fps: the steps are 3, 2, 3, 2, and never 2, 2, 4."""
    spec = stage_views.similarity(num_frames=6, stride=None, stride_s=0.1, num_clips=1)
    plan = draw(spec, [14], [25.0])
    np.testing.assert_array_equal(plan.frames[0, 0], [0, 3, 5, 8, 10, 13])


@pytest.mark.parametrize("wrong", [0.0, -0.1, float("nan"), float("inf"), 3601.0])
@pytest.mark.parametrize("preset", PRESETS)
def test_bad_values_are_named(preset: str, wrong: float) -> None:
    with pytest.raises(InputError, match=f"stride_s is {wrong}: give seconds"):
        PRESETS[preset](stride=None, stride_s=wrong)
    with pytest.raises(InputError, match=r"and stride_s=0\.08 are both given"):
        PRESETS[preset](stride_s=0.08)


def test_values_that_do_not_fit_are_named() -> None:
    for make in (stage_views.pretrain, stage_views.similarity):
        with pytest.raises(InputError, match="stride and stride_s are both None"):
            make(stride=None)
    with pytest.raises(InputError, match=r"stride_s is 0\.1, but the views span the whole video"):
        replace(stage_views.finetune(stride=None), stride_s=0.1)
    with pytest.raises(ValueError, match="stride_s needs the frame rate"):
        draw(stage_views.finetune(stride=None, stride_s=0.1), [9], None)


def test_a_step_below_half_a_frame_is_refused() -> None:
    spec = stage_views.finetune(stride=None, stride_s=0.02)
    check_stride_s(spec, 25, "'a'")  # half a frame
    check_stride_s(stage_views.finetune(), 0.001, "'a'")
    message = r"stride_s is 0\.02, which is less than half a frame of 'a' at 24 frames per second"
    with pytest.raises(InputError, match=message):
        check_stride_s(spec, 24, "'a'")
