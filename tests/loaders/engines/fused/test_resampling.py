"""The filters of the compiled pass: their weights and the samples that they read."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from loaders.engines.fused.resampling import axis_filter


@example(out_size=3, in_size=3, share=(0.9999999999999999, 0.0), flip=True)
@example(out_size=110, in_size=14, share=(1.0, 0.0), flip=False)
@given(
    out_size=st.integers(1, 300),
    in_size=st.integers(1, 300),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    flip=st.booleans(),
)
def test_weights_sum_to_one_and_stay_inside(
    out_size: int, in_size: int, share: tuple[float, float], flip: bool
) -> None:
    extent = max(share[0] * in_size, 0.5)
    start = share[1] * (in_size - extent)
    num_blocks, most_taps = -(-out_size // 16), in_size + 2
    first = np.full(num_blocks * 16, -1, np.int64)
    by_block = np.zeros((num_blocks, most_taps, 16), np.uint16)
    taps, low, width = axis_filter(out_size, start, extent, in_size, flip, first, by_block)
    weights = by_block.transpose(0, 2, 1).reshape(-1, most_taps)
    assert (weights.sum(axis=1) == 2**16 - 1).all()
    assert (weights[:, taps:] == 0).all()
    assert first.min() == 0 <= low
    assert first.max() + taps == width <= in_size - low
    assert (first[out_size:] == first[out_size - 1]).all()
    assert (weights[out_size:] == weights[out_size - 1]).all()
