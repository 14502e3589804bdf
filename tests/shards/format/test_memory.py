"""Small or sparse files from a stranger never take more memory than the docs say."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.format.dataset_json import DATASET_NAME, read_dataset_json
from shards.format.earlier_states import MANIFEST_NAME
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import packets_name
from shards.format.video import MAX_NUM_FRAMES
from tests.shards.helpers import rewritten

# Only 200 MB more than an idle process has may be allocated.
_READ = """
import resource, sys
from shards.errors import InputError
from shards.format.manifest import read_manifest
from shards.reader import ShardReader
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = 1024 * int(lines["VmData"].split()[0]) + 200_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    manifest = read_manifest(sys.argv[1])
    with ShardReader(manifest) as reader:
        reader.read_frames(0, 0, 0)
except InputError as error:
    print(error)
"""


def _batch(path: Path) -> pa.RecordBatch:
    with pa.ipc.open_file(pa.py_buffer(path.read_bytes())) as file:
        return file.get_batch(0)


def _with_sizes(batch: pa.RecordBatch, num_frames: int) -> pa.RecordBatch:
    """The same, but the first row has so many frames."""
    offsets = [0, *[num_frames] * batch.num_rows]
    buffers = [pa.py_buffer(bytes(2 * num_frames))]
    numbers = pa.Array.from_buffers(pa.uint16(), num_frames, [None, *buffers])
    sizes = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), numbers)
    columns = {name: batch.column(name) for name in batch.schema.names}
    return pa.record_batch({**columns, "sizes": sizes})


def _write(path: Path, batch: pa.RecordBatch, compression: str | None) -> None:
    path.unlink()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(str(path), batch.schema, options=options) as writer:
        writer.write_batch(batch)


def _huge_json(root: Path) -> None:
    os.truncate(root / DATASET_NAME, 10 << 30)


def _huge_manifest(root: Path) -> None:
    os.truncate(root / MANIFEST_NAME, 10 << 30)


def _zipped_packets(root: Path) -> None:
    path = root / packets_name("shard-000000.tar")
    _write(path, _with_sizes(_batch(path), 150_000_000), "zstd")
    assert path.stat().st_size < 100_000


def _long_row(root: Path) -> None:
    path = root / packets_name("shard-000000.tar")
    _write(path, _with_sizes(_batch(path), MAX_NUM_FRAMES + 1), None)


def _large_video(root: Path) -> None:
    """The first video has a terabyte, as its row says, and its shard has more."""
    about = read_dataset_json(root)
    about = replace(about, shards=(replace(about.shards[0], num_bytes=2**41),))
    video = replace(read_manifest(root).video(0), size=2**40, packets_sha256="")
    rewritten(root, about, [video])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_large_video, "the shard ends"),
        (_huge_json, f"{DATASET_NAME}: has 10737418240 bytes, and may have 134217728"),
        (_huge_manifest, f"{MANIFEST_NAME}: has 10737418240 bytes, and may have 2147483648"),
        (_zipped_packets, "the packet index is not a packet index (its rows are compressed)"),
        (_long_row, "the packet index has too long a row for video 0 of the shard"),
    ],
)
def test_a_large_file_is_refused_in_little_memory(
    manifest: Manifest, tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    root = Path(shutil.copytree(manifest.root, tmp_path / "set"))
    change(root)
    command = [sys.executable, "-c", _READ, str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert reason in done.stdout
    assert str(root) in done.stdout


_READ_TABLE = """
import sys
import pyarrow as pa
from shards.files import parquet
parquet._MAX_TABLE_BYTES = int(sys.argv[2])
try:
    with open(sys.argv[1], "rb") as file:
        print(parquet.read_table(file).nbytes)
except pa.ArrowException as error:
    print(error)
print(pa.default_memory_pool().max_memory())
"""


@pytest.mark.parametrize(
    ("max_table_bytes", "answer", "max_bytes"),
    [
        (10_000_000, "its table has more than 10000000 bytes", 1_000_000),
        # The table, and for one column at a time its page and its batches.
        (200_000_000, "80000400", 140_000_000),
    ],
)
def test_pages_are_not_unpacked_in_vain(
    tmp_path: Path, max_table_bytes: int, answer: str, max_bytes: int
) -> None:
    """Ten columns, each of one page of 8 MB that takes some kilobytes in the file."""
    path = tmp_path / "table.parquet"
    column = pa.array(["x" * 800_000] * 10)
    table = pa.table({f"c{index}": column for index in range(10)})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, data_page_size=1 << 30)
    assert path.stat().st_size < 1_000_000
    command = [sys.executable, "-c", _READ_TABLE, str(path), str(max_table_bytes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    first, peak = done.stdout.splitlines()
    assert first == answer
    assert int(peak) < max_bytes
