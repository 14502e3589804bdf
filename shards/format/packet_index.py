"""The packet index of a shard: where each frame of a video lies, so that a window is a byte range.

`tb shard` stores videos as short closed groups of pictures (GOPs) without reordering. So frame n is
packet n, and the packets lie one after the other. The frames of a window are then one run of bytes
that begins at a keyframe. The index is an Arrow IPC file beside the shard, with one row for each
video. It is memory-mapped, so rows that are not used take no memory.

| column | type | meaning |
|---|---|---|
| `first_byte` | int64 | bytes from the video's first byte to its first packet |
| `sizes` | list of uint16 or uint32 | bytes of each frame's packet |
| `gop_frames` | list of uint32 | the number of each GOP's first frame; the first is 0 |
| `checksums` | list of uint32 | the CRC-32 (as zlib computes it) of each GOP's packets |
| `extradata` | binary | the decoder's configuration, as FFmpeg takes it |

A video without an index has an empty row. The manifest has the SHA-256 of each row's content, so
the digest of the data set covers the index.
"""

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.files.machine_errors import shortages_named
from shards.files.store import Store
from shards.format.packets import ByteRange, Packets, PacketsError
from shards.format.video import MAX_NUM_FRAMES

_LISTS = ("sizes", "gop_frames", "checksums")
# The longest ones hold H.265's parameter sets, which take some kilobytes.
_MAX_EXTRADATA_BYTES = 1 << 20
_MAGIC = b"ARROW1\0\0"


def _schema(size_type: pa.DataType) -> pa.Schema:
    return pa.schema(
        [
            ("first_byte", pa.int64()),
            ("sizes", pa.list_(size_type)),
            ("gop_frames", pa.list_(pa.uint32())),
            ("checksums", pa.list_(pa.uint32())),
            ("extradata", pa.binary()),
        ]
    )


def packets_name(shard_name: str) -> str:
    """The file name of a shard's packet index."""
    return shard_name.removesuffix(".tar") + ".packets.arrow"


def write_packets(store: Store, shard_name: str, rows: Sequence[Packets | None]) -> None:
    """Writes the packet index of a shard; see `packets_file`."""
    store.put_bytes(packets_name(shard_name), packets_file(rows))


def packets_file(rows: Sequence[Packets | None]) -> bytes:
    """The content of a packet index: a row for each video of the shard, in their order."""
    none = Packets(
        first_byte=0,
        sizes=np.zeros(0, np.int64),
        gop_frames=np.zeros(0, np.int64),
        checksums=np.zeros(0, np.int64),
        extradata=b"",
    )
    filled = [none if row is None else row for row in rows]
    largest = max((int(row.sizes.max(initial=0)) for row in filled), default=0)
    size_type = pa.uint16() if largest < 2**16 else pa.uint32()
    schema = _schema(size_type)
    columns = [
        pa.array([getattr(row, field.name) for row in filled], field.type) for field in schema
    ]
    batch = pa.record_batch(columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _first_batch(mapped: pa.MemoryMappedFile, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of an open file, as views of it.

    Raises:
        PacketsError: There are no rows, or they are compressed: a few kilobytes could unpack to any
            number of bytes.
        pa.ArrowException, ValueError, OSError, struct.error: The file is damaged.
    """
    mapped.seek(len(_MAGIC))
    messages = pa.ipc.MessageReader.open_stream(mapped)
    found = [message for _, message in zip(range(2), messages, strict=False)]
    if [message.type for message in found] != ["schema", "record batch"]:
        raise PacketsError("is not a packet index (it has no rows)")
    if _is_compressed(memoryview(found[1].metadata)):
        raise PacketsError("is not a packet index (its rows are compressed)")
    return pa.ipc.read_record_batch(found[1], schema)


def _is_compressed(message: memoryview) -> bool:
    """Whether a message with a record batch has a field "compression".

    Arrow offers no way to ask. The names of the fields are those in Arrow's Message.fbs.

    Args:
        message: Its metadata, a FlatBuffer.
    """
    root = _number("<I", message, 0)
    header = root + _field(message, root, 2)  # Message.header
    batch = header + _number("<I", message, header)
    return bool(_field(message, batch, 3))  # RecordBatch.compression


def _field(buffer: memoryview, table: int, index: int) -> int:
    """Bytes from a table of a FlatBuffer to its field number `index`; 0 if it lacks the field."""
    fields = table - _number("<i", buffer, table)
    place = 4 + 2 * index
    has_place = place < _number("<H", buffer, fields)
    return _number("<H", buffer, fields + place) if has_place else 0


def _number(form: str, buffer: memoryview, place: int) -> int:
    return int(struct.unpack_from(form, buffer, place)[0])


class PacketsFile:
    """An open packet index of one shard; rows are read from the mapped file when they are used."""

    def __init__(self, path: Path) -> None:
        """Maps the file.

        Raises:
            PacketsError: It is not a packet index, or it cannot be mapped.
            MachineError: This machine lacks open files or memory.
            OSError: There is no such file.
        """
        path.stat()  # if there is no such file, this raises a clearer error than Arrow does
        try:
            options = pa.ipc.IpcReadOptions(use_threads=False)
            with shortages_named(path):
                mapped = pa.memory_map(str(path))
            schema = pa.ipc.open_file(mapped, options=options).schema
            if not any(schema.equals(_schema(width)) for width in (pa.uint16(), pa.uint32())):
                raise PacketsError("is not a packet index (it has other columns)")
            batch = _first_batch(mapped, schema)
            batch.validate()
            # Every offset in this column is checked, because Arrow itself reads at them.
            batch.column("extradata").validate(full=True)
            if batch.column("extradata").null_count:
                raise PacketsError("is not a packet index (a row has no extradata)")
            self._first_byte = batch.column("first_byte").to_numpy()
            self._is_checked = np.zeros(len(self._first_byte), dtype=bool)
            self._extradata = batch.column("extradata")
            # Views of the mapped memory: where each row's numbers begin, and all numbers.
            self._lists = [
                (batch.column(name).offsets.to_numpy(), batch.column(name).values.to_numpy())
                for name in _LISTS
            ]
        except PacketsError:
            raise
        # Arrow raises an OSError for a damaged file, too.
        except (pa.ArrowException, ValueError, OSError, struct.error) as error:
            raise PacketsError(f"is not a packet index ({error})") from error

    def __len__(self) -> int:
        return len(self._first_byte)

    def row(self, place: int) -> Packets:
        """The packets of the video at `place` in the shard; check them before use.

        Raises:
            PacketsError: There is no such row, or it is longer than any row that `tb shard` writes.
        """
        mapped = self._mapped_row(place)
        return replace(
            mapped,
            sizes=mapped.sizes.astype(np.int64),
            gop_frames=mapped.gop_frames.astype(np.int64),
            checksums=mapped.checksums.astype(np.int64),
        )

    def _mapped_row(self, place: int) -> Packets:
        """As `row`, but its arrays are views of the mapped file."""
        if not 0 <= place < len(self):
            raise PacketsError(f"has {len(self)} rows, and none for video {place} of the shard")
        numbers = [values[offsets[place] : offsets[place + 1]] for offsets, values in self._lists]
        extradata = self._extradata[place].as_buffer()
        # Nothing has been copied from the mapped file yet.
        if max(map(len, numbers)) > MAX_NUM_FRAMES or extradata.size > _MAX_EXTRADATA_BYTES:
            raise PacketsError(f"has too long a row for video {place} of the shard")
        sizes, gop_frames, checksums = numbers
        return Packets(
            first_byte=int(self._first_byte[place]),
            sizes=sizes,
            gop_frames=gop_frames,
            checksums=checksums,
            extradata=extradata.to_pybytes(),
        )

    def byte_range(
        self, place: int, first: int, last: int, *, num_frames: int, num_bytes: int, sha256: str
    ) -> ByteRange:
        """Where the GOPs lie that hold frames `first` to `last` of video `place` of the shard.

        The first call for a video checks its whole row. Later calls read only what they need, so
        the windows of a long video cost no more than those of a short one.

        Args:
            place: The video's place in the shard. `num_frames`, `num_bytes` and `sha256` are
                the same in each call for a video.
            first: Number of the first frame.
            last: Number of the last frame.
            num_frames: How many frames the video has.
            num_bytes: The size of the video.
            sha256: The digest of the video's row.

        Raises:
            PacketsError: There is no such row, it does not fit the video, or it is not the one that
                was written.
        """
        if self._is_checked[place : place + 1].any():
            run = self._mapped_row(place).byte_range(first, last)
            # Somebody may have changed the file since the check.
            if run.begin + run.offsets[-1] > num_bytes:
                raise PacketsError("reaches beyond the video")
            return run
        run = self.row(place).checked_byte_range(
            first, last, num_frames=num_frames, num_bytes=num_bytes, sha256=sha256
        )
        self._is_checked[place] = True
        return run
