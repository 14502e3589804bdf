"""Parquet files: read without Arrow's thread pools, and written whole.

Arrow's thread pools can abort a process that ends soon after they were started ("terminate called
without an active exception"). `pyarrow.parquet.read_table` always starts one; the plain reader
does not.
"""

import io
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from shards.files.publish import publish_bytes


def read_table(file: BinaryIO) -> pa.Table:
    """The whole table of an open file.

    Raises:
        pa.ArrowException: The file is not Parquet.
    """
    return pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)


def publish_table(path: Path, table: pa.Table) -> None:
    """Writes a table; the file appears whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    publish_bytes(path, buffer.getvalue())
