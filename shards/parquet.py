"""Parquet files into Arrow tables, without Arrow's thread pools.

A process that ends soon after its pools were started may be aborted when they are torn down
("terminate called without an active exception"). `pyarrow.parquet.read_table` starts one whatever
it is told; the plain reader does not.
"""

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(file: BinaryIO) -> pa.Table:
    """The whole table of an open file; pa.ArrowException where it is not Parquet."""
    return pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)
