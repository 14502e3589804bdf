"""What an unfinished ingestion remembers: OUT/.ingest/, a plan and a note per finished shard.

Remote folders have theirs too, so that another machine can go on; only the lock is local.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.files.lock import locked
from shards.files.store import SCRATCH_NAME, Store
from shards.format.manifest import FORMAT_VERSION
from shards.format.shard import index_name, is_shard_name, shard_name
from shards.sources.class_folders import relative_name
from shards.sources.dataset import Dataset, Source

_PLAN_NAME = f"{SCRATCH_NAME}/plan.json"
_LOCK_NAME = "lock"


@dataclass(frozen=True, kw_only=True)
class Note:
    """A finished shard.

    `next_position` is the place in the order where the next shard begins; `rows` are manifest
    rows; `skipped` the bad videos met on the way; `num_bytes` and `sha256` are the file's.
    """

    next_position: int
    rows: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    num_bytes: int
    sha256: str


class Journal:
    """The memory of one unfinished ingestion into a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def start(self, plan: dict[str, Any]) -> list[Note]:
        """Begins, or goes on with what was begun: the notes of the shards finished so far.

        Raises:
            InputError: the folder holds something else.
        """
        earlier = self._read_plan()
        if earlier is not None:
            if earlier != plan:
                raise InputError(
                    f"{self._store.name}: an ingestion with other videos, recipe, seed or library"
                    " versions was begun there; choose another --out, or delete the folder"
                )
        elif any(is_shard_name(name) for name in self._store.names()):
            raise InputError(
                f"{self._store.name}: holds shards of unknown origin; choose another --out, or"
                " delete them"
            )
        else:
            self._store.put_bytes(_PLAN_NAME, json.dumps(plan).encode())
        for unfinished in self._store.scratch.glob("*.unfinished"):
            unfinished.unlink()
        notes = list(self._read_notes())
        self.forget(len(notes))
        return notes

    def add(self, shard_index: int, note: Note) -> None:
        """Remembers a shard that has been published."""
        self._store.put_bytes(_note_name(shard_index), json.dumps(asdict(note)).encode())

    def forget(self, first: int) -> None:
        """Removes the finished shards from number `first` on: they are to be made anew."""
        end = first
        while self._store.size(_note_name(end)) is not None:
            end += 1
        # The last one first, or a crash would leave notes that fit nothing before them.
        for index in reversed(range(first, end)):
            name = shard_name(index)
            for file in (_note_name(index), name, index_name(name)):
                self._store.remove(file)

    def remove(self) -> None:
        """Forgets everything."""
        self._store.clear()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing to the same folder.

        Raises:
            InputError: one is at it.
        """
        self._store.scratch.mkdir(parents=True, exist_ok=True)
        complaint = f"{self._store.name}: another `tb shard` is writing there; wait for it to end"
        with locked(self._store.scratch / _LOCK_NAME, complaint):
            yield

    def _read_plan(self) -> dict[str, Any] | None:
        data = self._store.read(_PLAN_NAME)
        try:
            return None if data is None else dict(json.loads(data))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self._store.name}/{_PLAN_NAME}: unreadable ({error}), so what was begun there is"
                f" unknown; delete {self._store.name} and start again, or choose another --out"
            ) from error

    def _read_notes(self) -> Iterator[Note]:
        index = 0
        while (data := self._store.read(_note_name(index))) is not None:
            try:
                note = Note(**json.loads(data))
            except (ValueError, TypeError):
                return  # Cut off while it was written: as good as none.
            if self._store.size(shard_name(index)) != note.num_bytes:
                raise InputError(
                    f"{self._store.name}/{shard_name(index)}: was removed or changed since it was"
                    f" written; delete {self._store.name} and start again"
                )
            yield note
            index += 1


def _note_name(shard_index: int) -> str:
    return f"{SCRATCH_NAME}/{shard_name(shard_index)}.json"


def fingerprint(dataset: Dataset, recipe: Recipe, seed: int, shard_bytes: int) -> str:
    """Hex SHA-256 of everything that decides what the shards hold, short of the videos' bytes.

    Videos count by their size, not their content: reading terabytes twice would be too much.
    """
    content = [
        FORMAT_VERSION,
        dataset.name,
        list(dataset.classes),
        asdict(recipe),
        seed,
        shard_bytes,
        list(dataset.missing),
        [
            (
                s.key,
                s.label,
                s.splits,
                s.group,
                relative_name(s.path, dataset.root),
                source_bytes(s),
                s.fault,
            )
            for s in dataset.sources
        ],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def source_bytes(source: Source) -> int:
    """Size of the file, -1 if it cannot be had."""
    try:
        return os.stat(source.path).st_size
    except OSError:
        return -1
