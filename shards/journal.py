"""What an unfinished ingestion remembers: OUT/.ingest/, a plan and a note per finished shard."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av

from shards.datasets import Dataset, Source
from shards.errors import InputError
from shards.folders import relative_name
from shards.manifest import FORMAT_VERSION
from shards.publish import publish_bytes
from shards.recipe import Recipe
from shards.writer import shard_name

JOURNAL_NAME = ".ingest"
_PLAN_NAME = "plan.json"
_LOCK_NAME = "lock"


@dataclass(frozen=True, kw_only=True)
class Note:
    """A finished shard.

    `next_position` is the place in the order where the next shard begins; `rows` are manifest
    rows; `skipped` the bad videos met on the way; `num_bytes` and `sha256` are the file's.
    """

    next_position: int
    rows: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    num_bytes: int
    sha256: str


class Journal:
    """The memory of one unfinished ingestion into `out`; `folder` also holds unfinished files."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.folder = out / JOURNAL_NAME

    def start(self, plan: dict[str, Any]) -> list[Note]:
        """Begins, or goes on with what was begun: the notes of the shards finished so far.

        Raises:
            InputError: the folder holds something else.
        """
        path = self.folder / _PLAN_NAME
        if path.is_file():
            if json.loads(path.read_bytes()) != plan:
                raise InputError(
                    f"{self._out}: an ingestion with other videos, recipe, seed or library"
                    " versions was begun there; choose another --out, or delete the folder"
                )
        elif any(self._out.glob("shard-*.tar")):
            raise InputError(
                f"{self._out}: holds shards of unknown origin; choose another --out, or delete them"
            )
        else:
            publish_bytes(path, json.dumps(plan).encode())
        for unfinished in self.folder.glob("*.unfinished"):
            unfinished.unlink()
        return list(self._read_notes())

    def add(self, shard_index: int, note: Note) -> None:
        """Remembers a shard that has been published."""
        data = json.dumps(asdict(note)).encode()
        publish_bytes(self._note_path(shard_index), data)

    def remove(self) -> None:
        """Forgets everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing to the same folder.

        Raises:
            InputError: one is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK_NAME).open("w") as file:
            try:
                # The system drops the lock when the process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"{self._out}: another `tb shard` is writing there; wait for it to end"
                ) from error
            except OSError:
                pass  # Some network file systems have no locks; then the user is trusted.
            yield

    def _read_notes(self) -> Iterator[Note]:
        index = 0
        while (path := self._note_path(index)).is_file():
            note = Note(**json.loads(path.read_bytes()))
            shard = self._out / shard_name(index)
            if not shard.is_file() or shard.stat().st_size != note.num_bytes:
                raise InputError(
                    f"{shard}: was removed or changed since it was written; delete {self._out}"
                    " and start again"
                )
            yield note
            index += 1

    def _note_path(self, shard_index: int) -> Path:
        return self.folder / f"{shard_name(shard_index)}.json"


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


def library_versions() -> dict[str, str]:
    """Versions of what shapes the encoded bytes."""
    try:
        own = version("timebalance")
    except PackageNotFoundError:  # run from a source tree
        own = "unknown"
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    return {"timebalance": own, "av": av.__version__, "libavcodec": libavcodec}
