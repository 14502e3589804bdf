"""Parquet files: Arrow tables out of them without Arrow's thread pools, and into them whole.

A process that ends soon after its pools were started may be aborted when they are torn down
("terminate called without an active exception"). `pyarrow.parquet.read_table` starts one whatever
it is told; the plain reader does not.
"""

import io
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from shards.files.publish import publish_bytes


def read_table(file: BinaryIO) -> pa.Table:
    """The whole table of an open file; pa.ArrowException where it is not Parquet."""
    return pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)


def publish_table(path: Path, table: pa.Table) -> None:
    """Writes a table, whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    publish_bytes(path, buffer.getvalue())
