"""Encoded videos, one after the other -> shards, rows and a note per shard."""

import hashlib
import json
from typing import Any

from shards.encode.transcode import Encoded
from shards.files.store import Store
from shards.format.shard import ShardWriter, member_bytes, shard_name
from shards.format.skipped import skipped_entry
from shards.ingestion.journal import Journal, Note, source_bytes
from shards.sources.class_folders import relative_name
from shards.sources.dataset import Dataset, Source


class ShardCollector:
    """Fills shard after shard; call finish() at the end and close() in any case.

    Attributes:
        rows: manifest rows so far, those of an interrupted run included.
        skipped: bad videos so far, likewise.
        position: how many sources have been dealt with.
        shards: name, num_bytes and sha256 of each shard published.
    """

    def __init__(
        self, dataset: Dataset, store: Store, journal: Journal, notes: list[Note], shard_bytes: int
    ) -> None:
        """Goes on after the shards described by `notes`."""
        self._dataset, self._store, self._journal = dataset, store, journal
        self._shard_bytes = shard_bytes
        self._writer: ShardWriter | None = None
        self.rows = [row for note in notes for row in note.rows]
        self.skipped = [entry for note in notes for entry in note.skipped]
        self.position = notes[-1].next_position if notes else 0
        self.shards = [
            shard_facts(index, note.num_bytes, note.sha256) for index, note in enumerate(notes)
        ]
        self._start_marks()

    def add(self, source: Source, encoded: Encoded) -> None:
        """Stores the next source's video, in a new shard if it does not fit into this one."""
        row = self._row(source, encoded)
        facts = key_facts(row, self._dataset.classes)
        room = member_bytes(len(encoded.data)) + member_bytes(len(facts))
        if self._writer and self._writer.num_bytes + room > self._shard_bytes:
            self._end_shard()
        name = shard_name(len(self.shards))
        if self._writer is None:
            self._writer = ShardWriter(self._store, name)
        offset = self._writer.add(source.key, encoded.extension, encoded.data, facts)
        self.rows.append({**row, "shard": name, "offset": offset})
        self.position += 1

    def skip(self, source: Source, reason: str, *, may_pass: bool) -> None:
        """Notes that the next source's video is bad."""
        name = relative_name(source.path, self._dataset.root)
        self.skipped.append(skipped_entry(name, source.key, reason, may_pass=may_pass))
        self.position += 1

    def finish(self) -> None:
        """Publishes the last shard."""
        if self._writer:
            self._end_shard()

    def close(self) -> None:
        """Drops a shard in progress."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def _end_shard(self) -> None:
        assert self._writer is not None
        num_bytes, sha256 = self._writer.publish()
        self._writer = None
        note = Note(
            next_position=self.position,
            rows=self.rows[self._first_row :],
            skipped=self.skipped[self._first_skipped :],
            num_bytes=num_bytes,
            sha256=sha256,
        )
        # After the shard: a note without its shard would lose videos, a shard without its note
        # is merely written again.
        index = len(self.shards)
        self._journal.add(index, note)
        self.shards.append(shard_facts(index, num_bytes, sha256))
        self._start_marks()

    def _start_marks(self) -> None:
        self._first_row, self._first_skipped = len(self.rows), len(self.skipped)

    def _row(self, source: Source, encoded: Encoded) -> dict[str, Any]:
        return {
            "key": source.key,
            "label": source.label,
            "splits": list(source.splits),
            "group": source.group,
            "num_frames": encoded.num_frames,
            "fps_num": encoded.fps.numerator,
            "fps_den": encoded.fps.denominator,
            "height": encoded.height,
            "width": encoded.width,
            "codec": encoded.codec,
            "size": len(encoded.data),
            "sha256": hashlib.sha256(encoded.data).hexdigest(),
            "source": relative_name(source.path, self._dataset.root),
            "source_bytes": source_bytes(source),
        }


def shard_facts(index: int, num_bytes: int, sha256: str) -> dict[str, Any]:
    """What dataset.json says of shard number `index`."""
    return {"name": shard_name(index), "num_bytes": num_bytes, "sha256": sha256}


def key_facts(row: dict[str, Any], classes: tuple[str, ...]) -> bytes:
    """The content of KEY.json for a manifest row, for readers that know only the tar."""
    facts = {
        "key": row["key"],
        "label": row["label"],
        "class": classes[row["label"]],
        "splits": row["splits"],
        "group": row["group"],
        "num_frames": row["num_frames"],
        "fps": [row["fps_num"], row["fps_den"]],
        "height": row["height"],
        "width": row["width"],
        "codec": row["codec"],
        "source": row["source"],
    }
    return json.dumps(facts, separators=(",", ":")).encode()
