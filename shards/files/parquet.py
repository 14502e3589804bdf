"""Parquet files: read without Arrow's thread pools and in bounded memory, and written whole.

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

# A few kilobytes of Parquet can hold a terabyte of equal rows.
_MAX_TABLE_BYTES = 4 << 30
_BATCH_ROWS = 512


def read_table(file: BinaryIO, schema: pa.Schema | None = None) -> pa.Table:
    """The whole table of an open file.

    It is read column by column, because a page may unpack to 2 GiB, and a reader of all columns
    would have a page of each in memory at the same time.

    Args:
        file: The file.
        schema: The columns that it must have; None means any.

    Raises:
        pa.ArrowException: The file is not Parquet, it has other columns, or its table has more than
            4 GiB.
    """
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        if schema is not None:
            _check_columns(parquet.schema_arrow, schema)
        groups = range(parquet.num_row_groups)
        num_bytes = sum(parquet.metadata.row_group(index).total_byte_size for index in groups)
        _check_bytes(num_bytes)  # refuses most harmful files before a page is unpacked
        columns, num_bytes = [], 0
        for name in parquet.schema_arrow.names:
            chunks = []
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False):
                chunks.append(batch.column(0))
                num_bytes += batch.nbytes
                _check_bytes(num_bytes)
            kind = parquet.schema_arrow.field(name).type
            columns.append(pa.chunked_array(chunks, kind).combine_chunks())
        return pa.Table.from_arrays(columns, schema=parquet.schema_arrow)
    except OSError as error:
        if error.errno is not None:
            raise
        # Without errno it is Arrow's own error: bytes do not unpack.
        raise pa.ArrowInvalid(str(error)) from error


def _check_bytes(num_bytes: int) -> None:
    if num_bytes > _MAX_TABLE_BYTES:
        raise pa.ArrowInvalid(f"its table has more than {_MAX_TABLE_BYTES} bytes")


def _check_columns(found: pa.Schema, expected: pa.Schema) -> None:
    if found.names != expected.names:
        raise pa.ArrowInvalid(f"its columns are {', '.join(found.names)}")
    for have, want in zip(found, expected, strict=True):
        if have.type != want.type:
            raise pa.ArrowInvalid(f"its column {have.name} is {have.type}, not {want.type}")


def publish_table(path: Path, table: pa.Table) -> None:
    """Writes a table; the file appears whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    publish_bytes(path, buffer.getvalue())
