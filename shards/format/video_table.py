"""The Arrow schema of the manifest, derived from `Video`, and the table of some videos."""

from collections.abc import Iterable
from dataclasses import fields
from typing import get_type_hints

import pyarrow as pa

from shards.format.video import ColorMatrix, ColorRange, Video

_ARROW_TYPES = {
    str: pa.string(),
    int: pa.int64(),
    tuple[str, ...]: pa.list_(pa.string()),
    ColorMatrix: pa.string(),
    ColorRange: pa.string(),
}


def _schema() -> pa.Schema:
    types = get_type_hints(Video)
    return pa.schema([(field.name, _ARROW_TYPES[types[field.name]]) for field in fields(Video)])


SCHEMA = _schema()


def video_table(videos: Iterable[Video]) -> pa.Table:
    """The Arrow table with one row for each video."""
    return pa.Table.from_pylist([video.to_row() for video in videos], schema=SCHEMA)
