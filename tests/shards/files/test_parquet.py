import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.files.parquet import read_table

_COUNT = """
import os, sys
import pyarrow.parquet
from shards.files.parquet import read_table
before = set(os.listdir("/proc/self/task"))
with open(sys.argv[1], "rb") as file:
    assert read_table(file).num_rows == 10_000
print(len(set(os.listdir("/proc/self/task")) - before))
"""


def test_round_trip_and_rubbish(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2], "name": ["a", None]}).replace_schema_metadata({"key": "value"})
    path = tmp_path / "table.parquet"
    pq.write_table(table, path, compression="zstd")
    with path.open("rb") as file:
        found = read_table(file)
    assert found.equals(table, check_metadata=True)
    path.write_bytes(b"no parquet")
    with path.open("rb") as file, pytest.raises(pa.ArrowException):
        read_table(file)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_reading_starts_no_threads(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"n": range(10_000), "name": ["x"] * 10_000}), path)
    command = [sys.executable, "-c", _COUNT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
