"""The manifest gives back what was written, row by row and column by column."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest

from shards.format.manifest import Manifest, content_digest
from shards.format.video import COLUMNS, Video
from shards.format.video_table import SCHEMA, video_table


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


@pytest.mark.parametrize("column", SCHEMA.names)
def test_the_digest_depends_on_every_column(manifest: Manifest, column: str) -> None:
    rows = manifest.table.to_pylist()
    values = {int: 7, str: "other", list: ["val"]}
    rows[1] = {**rows[1], column: values[type(rows[1][column])]}
    table = pa.Table.from_pylist(rows, SCHEMA)
    assert not table.equals(manifest.table)
    assert content_digest(manifest.name, manifest.classes, table) != manifest.digest


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
