"""Manifests with another column, for the same shards."""

from dataclasses import replace

import pyarrow as pa

from shards.format.manifest import Manifest


def with_column(manifest: Manifest, name: str, values: list[str] | list[int]) -> Manifest:
    """The manifest with other values in a column."""
    column = manifest.table.schema.get_field_index(name)
    table = manifest.table.set_column(column, name, pa.array(values))
    return replace(manifest, table=table)


def without_index(manifest: Manifest) -> Manifest:
    """The same set, of which whole files are read."""
    return with_column(manifest, "packets_sha256", [""] * len(manifest))
