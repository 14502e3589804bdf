"""`Manifest`: all videos of a finished folder of shards, from manifest.parquet and dataset.json.

The digest covers the content (classes, rows, and the SHA-256 of each video). It does not cover the
Parquet encoding or any absolute path, so the same input gives the same digest on every machine.
But `sha256sum` cannot compute it. So dataset.json also has the SHA-256 of the Parquet file, which
is compared at each reading.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.errors import InputError, one_of
from shards.files.cached_files import copies_folder, fetch_file, fetch_shard
from shards.files.parquet import read_table
from shards.files.store import Store, open_set
from shards.format.dataset_json import (
    DATASET_NAME,
    FORMAT_VERSION,
    DatasetJson,
    ShardFile,
    copies_name,
    read_dataset_json,
    write_dataset_json,
)
from shards.format.earlier_states import MANIFEST_NAME, manifest_bytes
from shards.format.manifest_checks import check_rows
from shards.format.packet_index import packets_name
from shards.format.splits import SplitQuery
from shards.format.video import COLUMNS, Video
from shards.format.video_table import SCHEMA, video_table

_MAX_REASON_CHARS = 300


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished folder of shards; the rows have the order of the videos in the shards.

    Attributes:
        root: The folder; for remote shards the folder of their copies.
        name: The name of the data set.
        classes: Class names; the index is the label.
        table: One row for each video, with the columns of `Video`.
        digest: The hex SHA-256 of the content, see `content_digest`.
        url: Where remote shards are; "" for local ones.
        shards: The files of the shards.
    """

    root: Path
    name: str
    classes: tuple[str, ...]
    table: pa.Table
    digest: str
    url: str = ""
    shards: tuple[ShardFile, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without the cached properties."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def select(
        self, *, class_name: str | None = None, split: str | None = None, split_number: int = 1
    ) -> Iterator[Video]:
        """Yields the videos of a class and a split.

        Args:
            class_name: Only this class; None means all.
            split: Only this split, see `indices`; None means all videos.
            split_number: Which split, counted from 1.

        Raises:
            InputError: There is no such class or split, or only the split's number is given.
        """
        if split is None and split_number != 1:
            raise InputError(f"split number {split_number} without a split: give its name too")
        rows = np.arange(len(self)) if split is None else self.indices(split, split_number)
        if class_name is not None:
            rows = rows[self.labels[rows] == self.label_of(class_name)]
        for row in self.table.take(pa.array(rows)).to_pylist():
            yield Video.from_row(row)

    def row_of(self, key: str) -> int:
        """The row of the video with this key.

        Raises:
            InputError: There is none; the message has the closest key.
        """
        if key not in self.keys:
            close = get_close_matches(key, self.keys, n=1)
            hint = f"did you mean {close[0]}?" if close else f"see `tb data ls {self.where}`"
            raise InputError(f"{self.where}: no video {key!r}; {hint}")
        return self.keys.index(key)

    def label_of(self, class_name: str) -> int:
        """The label of a class.

        Raises:
            InputError: There is no class of that name.
        """
        if class_name not in self.classes:
            raise InputError(
                f"{self.where}: no class {class_name!r}; see `tb data info {self.where}`"
            )
        return self.classes.index(class_name)

    @property
    def where(self) -> Path | str:
        """The URL, or the folder as short as it can be written here, for messages."""
        if self.url:
            return self.url
        here = Path.cwd()
        return self.root.relative_to(here) if self.root.is_relative_to(here) else self.root

    def video(self, index: int) -> Video:
        """The row at `index`."""
        return Video.from_row({name: self.table.column(name)[index].as_py() for name in COLUMNS})

    @cached_property
    def num_split_numbers(self) -> int:
        """How many alternative splits all rows have (3 for UCF101)."""
        shortest = pc.min(pc.list_value_length(self.table.column("splits"))).as_py()
        return int(shortest or 0)

    def indices(self, split: str, number: int = 1) -> np.ndarray:
        """The rows whose membership in a split is `split`, ascending: (M,) int64.

        Args:
            split: "train", "val", "test", "" (unused), or "pool"; see `SplitQuery`.
            number: Which split, counted from 1.

        Raises:
            InputError: There is no split of that name or number.
        """
        wanted = one_of(SplitQuery, "split", split).memberships
        if not 1 <= number <= self.num_split_numbers:
            raise InputError(
                f"{self.where}: split number {number} of {self.name!r}: there are"
                f" {self.num_split_numbers}; choose 1 to {self.num_split_numbers}"
            )
        memberships = pc.list_element(self.table.column("splits"), number - 1)
        return np.flatnonzero(pc.is_in(memberships, value_set=pa.array(wanted))).astype(np.int64)

    @cached_property
    def keys(self) -> list[str]:
        """All keys."""
        return list(self.table.column("key").to_pylist())

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, indices into `classes`."""
        return self._column("label")

    @cached_property
    def groups(self) -> list[str]:
        """All groups (see `Video.group`); "" if unknown."""
        return list(self.table.column("group").to_pylist())

    @cached_property
    def num_frames(self) -> np.ndarray:
        """(N,) int64."""
        return self._column("num_frames")

    @cached_property
    def heights(self) -> np.ndarray:
        """(N,) int64, pixels."""
        return self._column("height")

    @cached_property
    def widths(self) -> np.ndarray:
        """(N,) int64, pixels."""
        return self._column("width")

    @cached_property
    def fps(self) -> np.ndarray:
        """(N,) float64, frames per second."""
        return np.asarray(self._column("fps_num") / self._column("fps_den"))

    @cached_property
    def codecs(self) -> np.ndarray:
        """(N,) str objects, FFmpeg's names."""
        return self._text_column("codec")

    @cached_property
    def distinct_codecs(self) -> frozenset[str]:
        """The codecs of all videos, FFmpeg's names."""
        return frozenset(pc.unique(self.table.column("codec")).to_pylist())

    @cached_property
    def pixel_formats(self) -> np.ndarray:
        """(N,) str objects, FFmpeg's names."""
        return self._text_column("pixel_format")

    @cached_property
    def color_matrices(self) -> np.ndarray:
        """(N,) str objects, "bt601" or "bt709"."""
        return self._text_column("color_matrix")

    @cached_property
    def color_ranges(self) -> np.ndarray:
        """(N,) str objects, "limited" or "full"."""
        return self._text_column("color_range")

    @cached_property
    def has_packets(self) -> np.ndarray:
        """(N,) bool, whether a video has a packet index, so that a window of it can be read."""
        return np.asarray(pc.not_equal(self.table.column("packets_sha256"), "").to_numpy())

    @cached_property
    def shard_starts(self) -> np.ndarray:
        """(number of shards,) int64, the row of each shard's first video."""
        return np.asarray(np.unique(self.shard_index, return_index=True)[1], dtype=np.int64)

    @cached_property
    def shard_names(self) -> tuple[str, ...]:
        """The file names of the shards, ascending."""
        return tuple(sorted(pc.unique(self.table.column("shard")).to_pylist()))

    @cached_property
    def shard_bytes(self) -> np.ndarray:
        """(number of shards,) int64, the size of each shard's file.

        Raises:
            InputError: A shard is not in dataset.json.
        """
        sizes = [self._shard_file(name).num_bytes for name in self.shard_names]
        return np.array(sizes, dtype=np.int64)

    def shard_path(self, name: str, *, fetch_again: bool = False) -> Path:
        """The shard as a local file; a remote one is fetched if there is no copy.

        Args:
            name: The file name of the shard.
            fetch_again: Fetch a remote shard even if there is a copy.

        Raises:
            InputError: It cannot be fetched.
        """
        if not self.url:
            return self.root / name
        shard = self._shard_file(name)
        return fetch_shard(
            self.url,
            self.root,
            name,
            num_bytes=shard.num_bytes,
            sha256=shard.sha256,
            again=fetch_again,
        )

    def packets_path(self, name: str, *, fetch_again: bool = False) -> Path:
        """The packet index of a shard as a local file; a remote one is fetched.

        Args:
            name: The file name of the shard.
            fetch_again: Fetch a remote index even if there is a copy.

        Raises:
            InputError: It cannot be fetched.
        """
        shard, index = self._shard_file(name), packets_name(name)
        if not self.url:
            return self.root / index
        # An index takes a few bytes for each picture, and the shard takes at least as many.
        return fetch_file(self.url, self.root, index, max_bytes=shard.num_bytes, again=fetch_again)

    def _shard_file(self, name: str) -> ShardFile:
        shard = self._shard_files.get(name)
        if shard is None:
            raise InputError(
                f"{self.where}/{name}: not in {DATASET_NAME}; run `tb shard` again with another"
                " --out"
            )
        return shard

    @cached_property
    def _shard_files(self) -> dict[str, ShardFile]:
        return {shard.name: shard for shard in self.shards}

    @cached_property
    def shard_index(self) -> np.ndarray:
        """(N,) int64, indices into `shard_names`."""
        names = pa.array(self.shard_names, pa.string())
        found = pc.index_in(self.table.column("shard"), value_set=names)
        return np.asarray(found.to_numpy(), dtype=np.int64)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(N,) int64, bytes from the start of the shard to the first byte of the video."""
        return self._column("offset")

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N,) int64, bytes of each encoded video."""
        return self._column("size")

    def _column(self, name: str) -> np.ndarray:
        return np.asarray(self.table.column(name).to_numpy(), dtype=np.int64)

    def _text_column(self, name: str) -> np.ndarray:
        # Each distinct text is one object, because one for each row would take far more memory.
        column = self.table.column(name).combine_chunks().dictionary_encode()
        texts = np.array(column.dictionary.to_pylist(), dtype=object)
        return np.asarray(texts[column.indices.to_numpy()])


def content_digest(name: str, classes: tuple[str, ...], table: pa.Table) -> str:
    """The hex SHA-256 of name, classes and rows; the place and the file's encoding do not count."""
    hasher = hashlib.sha256(_canonical_json([FORMAT_VERSION, name, list(classes)]))
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            hasher.update(_canonical_json(row))
    return hasher.hexdigest()


def write_manifest(store: Store, videos: Iterable[Video], about: DatasetJson) -> DatasetJson:
    """Writes manifest.parquet, then dataset.json: from then on the folder counts as finished.

    Args:
        store: The folder with the shards.
        videos: All videos, in the order of the shards.
        about: The content of dataset.json; its two digests are replaced.

    Returns:
        The content of dataset.json as written.
    """
    table = video_table(videos)
    digest = content_digest(about.name, about.classes, table)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"digest": digest}), buffer, compression="zstd")
    store.put_bytes(MANIFEST_NAME, buffer.getvalue())
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    content = replace(about, digest=digest, manifest_sha256=sha256)
    write_dataset_json(store, content)
    return content


def read_manifest(root: Path | str) -> Manifest:
    """Opens a finished folder of shards; the videos themselves are not read.

    Args:
        root: A path, or a URL that fsspec opens; remote shards are copied when they are first read.
            "data/mine@1a2b3c4d" is an earlier state of data/mine, see `read_dataset_json`.

    Raises:
        InputError: The folder is missing, unfinished or unreadable, its two files disagree, or its
            rows have values that no row may have (see `manifest_checks`).
    """
    about = read_dataset_json(root)
    store, _ = open_set(root)
    path = f"{store.name}/{MANIFEST_NAME}"
    data = manifest_bytes(store, about)
    if data is None:
        raise InputError(f"{path}: missing; run `tb shard` again with another --out")
    try:
        agrees = hashlib.sha256(data).hexdigest() == about.manifest_sha256
        table = read_table(io.BytesIO(data), SCHEMA)
        agrees &= table.schema.metadata.get(b"digest", b"").decode() == about.digest
        table = table.replace_schema_metadata(None).cast(SCHEMA)
        table.validate(full=True)
    except (ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:_MAX_REASON_CHARS]
        raise InputError(
            f"{path}: unreadable ({reason}); run `tb shard` again with another --out"
        ) from error
    if not agrees:
        raise InputError(
            f"{path}: the digest disagrees with {DATASET_NAME}, so one of them was changed or"
            " belongs to another folder; run `tb shard` again with another --out"
        )
    check_rows(path, table, about)
    return Manifest(
        # It is absolute, because the current folder may change, and may differ in a loader process.
        root=(store.folder or copies_folder(copies_name(about))).absolute(),
        name=about.name,
        classes=about.classes,
        table=table,
        digest=about.digest,
        url=store.name if store.folder is None else "",
        shards=about.shards,
    )


def _canonical_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
