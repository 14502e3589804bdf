"""What a killed ingestion leaves in OUT/.ingest/: its settings, and a note for each finished shard.

There may also be a lock and files named *.unfinished, and OUT may have a finished shard without a
note. The next run replaces them. The journal of a remote folder is remote too, so another machine
can go on. The lock and the shard in progress are local.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from typing import Self

from shards.errors import InputError
from shards.files.addresses import SCRATCH_NAME
from shards.files.lock import locked
from shards.files.publish import UNFINISHED
from shards.files.size_limit import MAX_JSON_BYTES
from shards.files.store import Store
from shards.format.dataset_json import ShardFile
from shards.format.shard import is_shard_name, shard_files, shard_name
from shards.format.skipped_jsonl import Skipped
from shards.format.video import Video

_SETTINGS_NAME = f"{SCRATCH_NAME}/settings.json"
_LOCK_NAME = "lock"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What must be the same when an ingestion goes on.

    Attributes:
        fingerprint: See `fingerprint`.
        versions: The versions of the libraries.
    """

    fingerprint: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Note:
    """A finished shard.

    Attributes:
        next_position: The place in the order of the sources where the next shard begins.
        videos: The rows of its videos.
        skipped: The videos that were left out on the way.
        shard: The shard.
    """

    next_position: int
    videos: Sequence[Video]
    skipped: Sequence[Skipped]
    shard: ShardFile

    def to_json(self) -> bytes:
        """The note as a file."""
        rows = [video.to_row() for video in self.videos]
        skipped = [asdict(entry) for entry in self.skipped]
        content = {**vars(self), "videos": rows, "skipped": skipped, "shard": asdict(self.shard)}
        return json.dumps(content).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: It is not JSON.
            TypeError: An entry is missing or unknown.
            KeyError: An entry is missing.
        """
        content = json.loads(data)
        videos = [Video.from_row(row) for row in content["videos"]]
        skipped = [Skipped(**entry) for entry in content["skipped"]]
        shard = ShardFile(**content["shard"])
        return cls(**{**content, "videos": videos, "skipped": skipped, "shard": shard})


class Journal:
    """What is known of one unfinished ingestion into a store.

    Attributes:
        first_shard: The number of the first shard that the ingestion writes.
    """

    def __init__(self, store: Store, first_shard: int = 0) -> None:
        self._store, self.first_shard = store, first_shard

    @classmethod
    @contextmanager
    def opened(cls, store: Store, first_shard: int = 0) -> Iterator[Self]:
        """Lends the journal; meanwhile, no other process writes to the same folder.

        Raises:
            InputError: Another process is writing there.
        """
        store.scratch.mkdir(parents=True, exist_ok=True)
        message = f"{store.name}: another `tb shard` is writing there; wait for it to end"
        with locked(store.scratch / _LOCK_NAME, message):
            yield cls(store, first_shard)

    def start(self, settings: Settings) -> list[Note]:
        """Begins, or goes on with an interrupted run.

        Returns:
            The notes of the shards that are finished.

        Raises:
            InputError: The folder holds something else.
        """
        earlier = self._read_settings()
        if earlier is not None:
            if earlier != settings:
                raise InputError(
                    f"{self._store.name}: an ingestion with other videos, recipe, seed or library"
                    " versions was begun there; choose another --out, or"
                    f" {self._start_again()}"
                )
        elif strays := sorted(filter(self._is_ours, self._store.names())):
            raise InputError(
                f"{self._store.name}: holds shards of unknown origin, from {strays[0]} on; choose"
                " another --out, or delete them"
            )
        else:
            self._store.put_bytes(_SETTINGS_NAME, json.dumps(asdict(settings)).encode())
        for unfinished in self._store.scratch.glob(f"*{UNFINISHED}"):
            unfinished.unlink()
        return list(self._read_notes())

    def fingerprint(self) -> str | None:
        """The fingerprint of the unfinished ingestion; None if there is none.

        Raises:
            InputError: The settings are unreadable or too large.
        """
        settings = self._read_settings()
        return None if settings is None else settings.fingerprint

    def add(self, number: int, note: Note) -> None:
        """Records that the shard of that number has been published."""
        self._store.put_bytes(_note_name(number), note.to_json())

    def forget(self, first: int) -> None:
        """Removes the finished shards from note `first` on; they are then written again."""
        end = first = self.first_shard + first
        while self._store.size(_note_name(end)) is not None:
            end += 1
        # The last one goes first, because a crash must not leave notes without those before them.
        for number in reversed(range(first, end)):
            for file in (_note_name(number), *shard_files(shard_name(number))):
                self._store.remove(file)

    def remove(self) -> None:
        """Removes the whole journal."""
        self._store.clear()

    def _is_ours(self, name: str) -> bool:
        """Whether this ingestion may write a shard of that name."""
        return is_shard_name(name) and name not in map(shard_name, range(self.first_shard))

    def _start_again(self) -> str:
        """How to give up the ingestion; if it adds videos to a finished set, that set stays."""
        if not self.first_shard:
            return f"delete {self._store.name} and start again"
        return (
            f"delete {self._store.name}/{SCRATCH_NAME} and the shards from"
            f" {shard_name(self.first_shard)} on, and start again"
        )

    def _read_settings(self) -> Settings | None:
        data = self._store.read(_SETTINGS_NAME, MAX_JSON_BYTES)
        try:
            return None if data is None else Settings(**json.loads(data))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{self._store.name}/{_SETTINGS_NAME}: unreadable ({error}), so it is unknown what"
                f" was begun there; choose another --out, or {self._start_again()}"
            ) from error

    def _read_notes(self) -> Iterator[Note]:
        """Yields the notes up to a broken one, which is removed with all notes after it."""
        for index in count():
            data = self._store.read(_note_name(self.first_shard + index), MAX_JSON_BYTES)
            if data is None:
                return
            try:
                note = Note.from_json(data)
            except (ValueError, TypeError, KeyError):
                self.forget(index)  # The file system lost a part of the note.
                return
            name = note.shard.name
            if self._store.size(name) != note.shard.num_bytes:
                raise InputError(
                    f"{self._store.name}/{name}: was removed or changed since it was written;"
                    f" {self._start_again()}"
                )
            yield note


def _note_name(number: int) -> str:
    return f"{SCRATCH_NAME}/shard-{number:06d}.json"
