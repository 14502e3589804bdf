"""`TextColumn` gives the texts that Arrow gives."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from shards.format.text_column import TextColumn


@given(st.data())
def test_the_texts_are_those_of_the_whole_list(data: st.DataObject) -> None:
    """Also for other scripts, rows in any order, columns in pieces and pieces of a column."""
    texts = data.draw(st.lists(st.text(max_size=4), min_size=1, max_size=6))
    cut, begin = (data.draw(st.integers(0, len(texts) - 1)) for _ in range(2))
    pieces = [pa.array(texts[:cut], pa.string()), pa.array(texts[cut:], pa.string())]
    column = pa.chunked_array(pieces).slice(begin)
    rows = data.draw(st.lists(st.integers(0, len(column) - 1)))
    found = TextColumn(column).take(np.array(rows, dtype=np.int64))
    assert found == [texts[begin + row] for row in rows]
