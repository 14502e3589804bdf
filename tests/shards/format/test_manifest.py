"""The manifest gives back what was written, row by row and column by column."""

from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from shards.format.manifest import Manifest, content_digest
from shards.format.video import COLUMNS, SCHEMA, Video, video_table


def test_the_columns_are_the_fields_of_a_row(manifest: Manifest) -> None:
    names = [field.name for field in fields(Video)]
    assert list(COLUMNS) == SCHEMA.names == manifest.table.column_names == names


def test_rows_and_tables_are_the_same(manifest: Manifest) -> None:
    videos = [manifest.video(row) for row in range(len(manifest))]
    assert video_table(videos).equals(manifest.table)
    assert [Video.from_row(video.to_row()) for video in videos] == videos


def test_the_digest_depends_on_the_name_the_classes_and_every_row(manifest: Manifest) -> None:
    name, classes, table = manifest.name, manifest.classes, manifest.table
    assert content_digest(name, classes, table) == manifest.digest
    others = {
        content_digest("other", classes, table),
        content_digest(name, classes[::-1], table),
        content_digest(name, classes, table.slice(1)),
        content_digest(name, classes, table.take([*range(1, len(table)), 0])),
    }
    assert len(others - {manifest.digest}) == 4


def test_columns_are_arrays_in_the_order_of_the_rows(manifest: Manifest) -> None:
    columns = {
        "codec": manifest.codecs,
        "pixel_format": manifest.pixel_formats,
        "color_matrix": manifest.color_matrices,
        "color_range": manifest.color_ranges,
        "num_frames": manifest.num_frames,
        "height": manifest.heights,
        "width": manifest.widths,
        "offset": manifest.offsets,
        "size": manifest.sizes,
        "label": manifest.labels,
    }
    for name, column in columns.items():
        assert column.shape == (len(manifest),)
        assert column.dtype == (np.int64 if column.dtype.kind == "i" else object)
        for row, value in enumerate(column.tolist()):
            assert value == getattr(manifest.video(row), name)
    assert set(manifest.codecs) == {"h264"}
    assert set(manifest.pixel_formats) == {"yuv420p"}
    assert set(manifest.color_matrices) == {"bt601"}
    assert set(manifest.color_ranges) == {"limited"}


@given(st.data())
def test_the_keys_of_rows_are_those_of_the_whole_list(
    manifest: Manifest, data: st.DataObject
) -> None:
    """Also for other scripts, rows of any order, tables in pieces and pieces of a table."""
    keys = data.draw(st.lists(st.text(max_size=4), min_size=1, max_size=6))
    cut, begin = (data.draw(st.integers(0, len(keys) - 1)) for _ in range(2))
    column = pa.chunked_array([pa.array(keys[:cut], pa.string()), pa.array(keys[cut:])])
    table = pa.table({"key": column}).slice(begin)
    some = replace(manifest, table=table)
    rows = np.array(data.draw(st.lists(st.integers(0, len(table) - 1))), dtype=np.int64)
    assert some.keys_of(rows) == [some.keys[row] for row in rows.tolist()]
