"""The frames that a plan shows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loaders.plan import stage_views
from loaders.plan.draw import draw_plan
from loaders.plan.window import reflect
from tests.loaders.plan.drawing import HEIGHT, NUM_ROWS, assert_share, assert_uniform, draw


def _slow_reflect(index: int, num_frames: int) -> int:
    position, step = 0, 1
    for _ in range(index):
        if num_frames == 1:
            break
        if not 0 <= position + step < num_frames:
            step = -step
        position += step
    return position


@given(counts=st.lists(st.integers(1, 400), min_size=1, max_size=4), num_frames=st.integers(1, 20))
def test_whole_video_views_take_one_frame_of_each_segment(
    counts: list[int], num_frames: int
) -> None:
    num = np.array(counts)
    same = {"rows": np.arange(len(num)), "epochs": np.zeros(len(num), np.int64), "seed": 0}
    sizes = {"num_frames": num, "heights": np.full_like(num, 64), "widths": np.full_like(num, 64)}
    specs = [
        stage_views.finetune(num_frames=num_frames, stride=None, size_px=16),
        stage_views.evaluation(num_frames=num_frames, stride=None, size_px=16, num_clips=3),
    ]
    for spec in specs:
        plan = draw_plan(spec, **same, **sizes)
        edges = np.arange(num_frames + 1) / num_frames * num[:, None, None]
        assert (plan.frames >= np.floor(edges[..., :-1])).all()
        assert (plan.frames < np.ceil(edges[..., 1:])).all()
        assert not plan.padded.any()


@given(st.integers(0, 300), st.integers(1, 40))
def test_reflect_walks_to_the_end_and_back(index: int, num_frames: int) -> None:
    assert reflect(np.array(index), np.array(num_frames)) == _slow_reflect(index, num_frames)


def test_the_pretraining_window() -> None:
    plan = draw(stage_views.pretrain(), np.arange(NUM_ROWS), num_frames=100)
    start = plan.frames[:, 0, 0]
    assert start.min() == 0
    assert start.max() == 36
    assert_uniform((start + np.random.default_rng(0).random(NUM_ROWS)) / 37, 0, 1)
    window = np.arange(64)
    np.testing.assert_array_equal(plan.frames[:, 0], start[:, None] + window[::4])
    np.testing.assert_array_equal(plan.frames[:, 0], plan.frames[:, 1])
    for first in (2, 6):
        short = plan.frames[:, first : first + 4].reshape(NUM_ROWS, 64)
        np.testing.assert_array_equal(short, start[:, None] + window)
    assert not plan.padded.any()


def test_short_videos_are_reflected_and_said_to_be() -> None:
    plan = draw(stage_views.pretrain(), np.arange(3), num_frames=40)
    assert plan.padded.all()
    short = plan.frames[0, 2:6].ravel()
    np.testing.assert_array_equal(short, [*range(40), *range(38, 14, -1)])


def test_evaluation_clips_run_from_the_first_to_the_last_possible() -> None:
    plan = draw(stage_views.evaluation(num_crops=3), np.arange(2), num_frames=105)
    starts = plan.frames[0, :, 0].reshape(10, 3)
    np.testing.assert_array_equal(starts[:, 0], np.arange(10) * 10)
    assert (starts == starts[:, :1]).all()
    np.testing.assert_array_equal(plan.crop[0, :3, 1], [0, 32, 64])
    assert (plan.crop[0, :, 0] == 24).all()
    assert (plan.crop[0, :, 2:] == [192, 256]).all()
    assert (plan.color == np.eye(3, 4)).all()
    assert not plan.flip.any()


def test_the_weak_and_the_strong_view_show_the_same_frames() -> None:
    plan = draw(stage_views.weak_strong(), np.arange(NUM_ROWS))
    np.testing.assert_array_equal(plan.frames[:, 0], plan.frames[:, 1])
    weak, strong = plan.color[:, 0], plan.color[:, 1]
    assert (weak == np.eye(3, 4)).all()
    assert not (strong == np.eye(3, 4)).all(axis=(1, 2)).mean() > 0.3
    assert (plan.erase[:, 0, :, 2] == 0).all()
    assert_share(plan.erase[:, 1, 0, 2] > 0, 0.7)
    assert plan.crop[:, 0, 2].min() >= 0.8 * HEIGHT
    assert plan.crop[:, 1, 2].min() < 0.55 * HEIGHT


def test_similarity_clips_are_consecutive_and_in_the_middle() -> None:
    plan = draw(stage_views.similarity(), np.arange(1), num_frames=100)
    np.testing.assert_array_equal(plan.frames[0].ravel(), np.arange(18, 82))
    assert (plan.crop[0] == [24, 32, 192, 256]).all()
