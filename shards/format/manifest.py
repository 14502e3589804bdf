"""The manifest: one row per video (manifest.parquet) and facts on the whole (dataset.json).

dataset.json is written last, so a folder that has one is complete. The digest covers the content
(classes, rows, the videos' own digests), not the Parquet encoding nor any absolute path, so the
same input gives the same digest on every machine. The price: it cannot be computed with
`sha256sum`; the digest of the Parquet file's bytes is kept beside it for a quick check on reading.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.errors import InputError
from shards.files import cache
from shards.files.parquet import read_table
from shards.files.store import Store, local_path, open_store, remote_url

MANIFEST_NAME = "manifest.parquet"
DATASET_NAME = "dataset.json"
FORMAT_VERSION = 1
_NEEDED_FACTS = {
    *("name", "classes", "digest", "manifest_sha256", "shards"),
    *("num_sources", "num_skipped", "num_missing"),
}

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.int64()),
        ("splits", pa.list_(pa.string())),
        ("group", pa.string()),
        ("num_frames", pa.int64()),
        ("fps_num", pa.int64()),
        ("fps_den", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("codec", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("source", pa.string()),
        ("source_bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Video:
    """One row of the manifest; `offset` and `size` are in bytes, `source` relative to the root."""

    key: str
    label: int
    splits: tuple[str, ...]
    group: str
    num_frames: int
    fps: Fraction
    height: int
    width: int
    codec: str
    shard: str
    offset: int
    size: int
    sha256: str
    source: str
    source_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished folder of shards; rows in the order in which the videos lie in the shards.

    `digest` is the hex SHA-256 of the content (see the module's docstring). `url` is where the
    shards are if that is elsewhere; `root` then is the folder of the copies.
    """

    root: Path
    name: str
    classes: tuple[str, ...]
    table: pa.Table
    digest: str
    url: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def video(self, index: int) -> Video:
        """The row at `index`."""
        row = {name: self.table.column(name)[index].as_py() for name in SCHEMA.names}
        fps = Fraction(row.pop("fps_num"), row.pop("fps_den"))
        return Video(**{**row, "splits": tuple(row["splits"])}, fps=fps)

    @cached_property
    def num_split_numbers(self) -> int:
        """How many alternative splits there are (3 for UCF101), the least of all rows."""
        shortest = pc.min(pc.list_value_length(self.table.column("splits"))).as_py()
        return int(shortest or 0)

    def indices(self, split: str, number: int = 1) -> np.ndarray:
        """Rows whose membership in split `number` (1-based) is `split`, ascending, int64.

        "pool" stands for all that is neither "val" nor "test": for HMDB51, whose official training
        lists leave 1,666 videos unused, the papers take these as unlabelled ones too.

        Raises:
            InputError: there is no split of that number.
        """
        if not 1 <= number <= self.num_split_numbers:
            raise InputError(
                f"{self.root}: split number {number} of {self.name!r}: there are"
                f" {self.num_split_numbers}; choose 1 to {self.num_split_numbers}"
            )
        wanted = ("train", "") if split == "pool" else (split,)
        memberships = pc.list_element(self.table.column("splits"), number - 1)
        members = pc.is_in(memberships, value_set=pa.array(wanted)).to_numpy()
        return np.flatnonzero(members).astype(np.int64)

    @cached_property
    def keys(self) -> list[str]:
        """All keys."""
        return list(self.table.column("key").to_pylist())

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [N], indices into `classes`."""
        return self._column("label")

    @cached_property
    def groups(self) -> list[str]:
        """All groups (videos that belong together, as takes of one scene), "" where unknown."""
        return list(self.table.column("group").to_pylist())

    @cached_property
    def num_frames(self) -> np.ndarray:
        """int64 [N]."""
        return self._column("num_frames")

    @cached_property
    def heights(self) -> np.ndarray:
        """int64 [N], px."""
        return self._column("height")

    @cached_property
    def widths(self) -> np.ndarray:
        """int64 [N], px."""
        return self._column("width")

    @cached_property
    def fps(self) -> np.ndarray:
        """float64 [N], frames per second."""
        return np.asarray(self._column("fps_num") / self._column("fps_den"))

    @cached_property
    def shard_names(self) -> tuple[str, ...]:
        """The shards' file names, ascending."""
        return tuple(sorted(pc.unique(self.table.column("shard")).to_pylist()))

    def shard_path(self, name: str, *, anew: bool = False) -> Path:
        """The shard as a local file, fetched if need be (`anew`: even if there is a copy).

        Raises:
            InputError: it cannot be fetched.
        """
        if not self.url:
            return self.root / name
        return cache.fetch_shard(self.url, self.root, name, self._shard_facts[name], anew)

    @cached_property
    def _shard_facts(self) -> dict[str, dict[str, Any]]:
        return {
            shard["name"]: shard for shard in read_dataset_facts(self.url or self.root)["shards"]
        }

    @cached_property
    def shard_index(self) -> np.ndarray:
        """int64 [N], indices into `shard_names`."""
        names = pa.array(self.shard_names, pa.string())
        found = pc.index_in(self.table.column("shard"), value_set=names)
        return np.asarray(found.to_numpy(), dtype=np.int64)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 [N], bytes from the start of the shard to the video's first byte."""
        return self._column("offset")

    @cached_property
    def sizes(self) -> np.ndarray:
        """int64 [N], bytes of each encoded video."""
        return self._column("size")

    def _column(self, name: str) -> np.ndarray:
        return np.asarray(self.table.column(name).to_numpy(), dtype=np.int64)


def content_digest(name: str, classes: tuple[str, ...], table: pa.Table) -> str:
    """Hex SHA-256 of a data set's content, independent of where and how it is stored."""
    hasher = hashlib.sha256(_canonical_json([FORMAT_VERSION, name, list(classes)]))
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            hasher.update(_canonical_json(row))
    return hasher.hexdigest()


def write_manifest(
    store: Store,
    *,
    name: str,
    classes: tuple[str, ...],
    rows: list[dict[str, Any]],
    facts: dict[str, Any],
) -> str:
    """Writes manifest.parquet, then dataset.json: from then on the folder counts as finished.

    Args:
        store: the folder with the shards.
        name: of the data set.
        classes: class names, index = label.
        rows: one dict per video with the columns of SCHEMA, in shard order.
        facts: what else dataset.json shall say (recipe, versions, ...).

    Returns:
        The digest of the content.
    """
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    digest = content_digest(name, classes, table)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"digest": digest}), buffer, compression="zstd")
    store.put_bytes(MANIFEST_NAME, buffer.getvalue())
    document = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "num_videos": len(rows),
        "counts": _counts(rows),
        "digest": digest,
        "manifest_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        **facts,
        "classes": list(classes),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    store.put_bytes(DATASET_NAME, text.encode())
    return digest


def read_dataset_facts(root: Path | str) -> dict[str, Any]:
    """The content of dataset.json.

    Raises:
        InputError: there is no readable one.
    """
    store = open_store(root)
    path = f"{store.name}/{DATASET_NAME}"
    data = store.read(DATASET_NAME)
    if data is None:
        folder = local_path(root)
        if folder is not None and not folder.is_dir():
            raise InputError(f"{root}: no such folder; make shards with `tb shard`")
        raise InputError(
            f"{root}: not a shards folder, or `tb shard` has not finished: run it again"
        )
    try:
        facts = json.loads(data)
        version = facts["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: unreadable ({error!r}); make the shards anew") from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version}, this program reads {FORMAT_VERSION}; make the"
            " shards anew"
        )
    missing = sorted(_NEEDED_FACTS - facts.keys())
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; make the shards anew")
    return dict(facts)


def read_manifest(root: Path | str) -> Manifest:
    """Opens a finished folder of shards; the videos themselves are not touched.

    Args:
        root: a path, or a URL that fsspec opens; its shards are copied when first read (`cache`).

    Raises:
        InputError: the folder is missing, unfinished, unreadable, or its two files disagree.
    """
    facts, folder = read_dataset_facts(root), local_path(root)
    store = open_store(root)
    path = f"{store.name}/{MANIFEST_NAME}"
    data = store.read(MANIFEST_NAME)
    if data is None:
        raise InputError(f"{path}: missing; make the shards anew")
    try:
        agrees = hashlib.sha256(data).hexdigest() == facts["manifest_sha256"]
        table = read_table(io.BytesIO(data))
        agrees &= table.schema.metadata.get(b"digest", b"").decode() == facts["digest"]
        table = table.replace_schema_metadata(None).cast(SCHEMA)
        name, classes, digest = facts["name"], tuple(facts["classes"]), facts["digest"]
    except (ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        raise InputError(f"{path}: unreadable ({error}); make the shards anew") from error
    if not agrees:
        raise InputError(
            f"{path}: the digest disagrees with {DATASET_NAME}, so one of them was changed or"
            " belongs elsewhere; make the shards anew"
        )
    url = str(remote_url(root)) if folder is None else ""
    root = folder or cache.folder_of(digest)
    return Manifest(root=root, name=name, classes=classes, table=table, digest=digest, url=url)


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _counts(rows: list[dict[str, Any]]) -> list[dict[str, int]]:
    """Videos per split name, one dict per split number."""
    num_numbers = max((len(row["splits"]) for row in rows), default=0)
    counts: list[dict[str, int]] = [{} for _ in range(num_numbers)]
    for row in rows:
        for count, split in zip(counts, row["splits"], strict=False):
            count[split or "unused"] = count.get(split or "unused", 0) + 1
    return [dict(sorted(count.items())) for count in counts]
