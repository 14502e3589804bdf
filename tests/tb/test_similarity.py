"""The formula of s against slow counts, and the mixture."""

import pytest
import torch
from torch.nn.functional import normalize

from tb.similarity import temporal_similarity


def test_extremes() -> None:
    same = torch.ones(2, 4, 1)
    apart = torch.eye(4).expand(2, 4, 4)
    assert temporal_similarity(same, same).tolist() == [1.0, 1.0]
    assert temporal_similarity(apart, apart).tolist() == [0.0, 0.0]
    assert temporal_similarity(same, apart).tolist() == [0.5, 0.5]


def test_opposite_clips_are_clipped_to_zero() -> None:
    clips = torch.tensor([[[1.0], [-1.0], [1.0], [-1.0]]])
    assert temporal_similarity(clips, clips).tolist() == [0.0]


def test_is_the_mean_of_the_twelve_off_diagonal_cosines() -> None:
    torch.manual_seed(0)
    one, two = (normalize(torch.randn(3, 4, 8) + 0.5, dim=-1) for _ in range(2))
    for video in range(3):
        cosines = [
            float(clips[video, a] @ clips[video, b])
            for clips in (one, two)
            for a in range(4)
            for b in range(4)
            if a != b
        ]
        assert len(cosines) == 24
        wanted = min(max(sum(cosines) / 24, 0.0), 1.0)
        assert temporal_similarity(one, two)[video].item() == pytest.approx(wanted, abs=1e-6)
