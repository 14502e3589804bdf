"""A calibration for tests that only need its map."""

from tb.method.calibration import Calibration


def calibration(*, offset: float = 0.0, slope: float = 1.0) -> Calibration:
    """The map w = sigmoid(offset + slope logit(s)), of 40 videos in 5 folds; by default w = s."""
    return Calibration(
        offset=offset,
        slope=slope,
        num_videos=40,
        num_left_out=0,
        num_folds=5,
        warning="",
        log_likelihood={},
        right={},
        source={},
    )
