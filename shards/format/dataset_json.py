"""dataset.json: what a finished folder of shards holds, as a whole.

It is written last, so a folder that has one is complete.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from shards.errors import InputError
from shards.files.addresses import local_path
from shards.files.store import Store, open_store
from shards.format.shard import is_shard_name
from shards.format.video import SplitName

DATASET_NAME = "dataset.json"
FORMAT_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A shard as it was written.

    Attributes:
        name: Its file name.
        num_bytes: Its size.
        sha256: The hex SHA-256 of its bytes.
    """

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DatasetJson:
    """The content of dataset.json.

    Attributes:
        name: The name of the data set.
        num_videos: How many videos are stored.
        counts: For each split number, how many videos have which membership.
        digest: The hex SHA-256 of the content, see `manifest.content_digest`.
        manifest_sha256: The hex SHA-256 of manifest.parquet.
        num_sources: How many videos were found on disk.
        num_skipped: How many of them could not be used.
        num_missing: How many videos the lists of the data set name but the disk does not have.
        num_frames: How many frames all stored videos have.
        recipe: How the videos were stored, see `encode.recipe.Recipe`.
        seed: The seed of the order in the shards.
        fingerprint: See `ingestion.fingerprint`.
        versions: The versions of the libraries on which the bytes depend.
        shards: All shards, in order.
        classes: Class names; the index is the label.
    """

    name: str
    num_videos: int
    counts: tuple[dict[str, int], ...]
    digest: str
    manifest_sha256: str
    num_sources: int
    num_skipped: int
    num_missing: int
    num_frames: int
    recipe: dict[str, str | int | float | None]
    seed: int
    fingerprint: str
    versions: dict[str, str]
    shards: tuple[ShardFile, ...]
    classes: tuple[str, ...]


def split_counts(memberships: Iterable[Sequence[str]]) -> tuple[dict[str, int], ...]:
    """For each split number {`SplitName.text`: number of videos}, without empty ones.

    Args:
        memberships: `Video.splits` of each video.
    """
    counts: list[Counter[str]] = []
    for splits in memberships:
        counts += [Counter() for _ in range(len(splits) - len(counts))]
        for count, split in zip(counts, splits, strict=False):
            count[SplitName(split).text] += 1
    return tuple(dict(sorted(count.items())) for count in counts)


def write_dataset_json(store: Store, content: DatasetJson) -> None:
    """Writes dataset.json: from then on the folder counts as finished."""
    document = {"format_version": FORMAT_VERSION, **asdict(content)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    store.put_bytes(DATASET_NAME, text.encode())


def read_dataset_json(root: Path | str) -> DatasetJson:
    """The content of dataset.json in a folder, or behind a URL.

    Raises:
        InputError: There is none, it is unreadable, or it has another format version.
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
        document = json.loads(data)
        version = document.pop("format_version")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: unreadable ({error!r}); run `tb shard` again with another --out"
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version}, but this program reads version {FORMAT_VERSION};"
            " run `tb shard` again with another --out"
        )
    if missing := sorted({field.name for field in fields(DatasetJson)} - document.keys()):
        raise InputError(
            f"{path}: lacks {', '.join(missing)}; run `tb shard` again with another --out"
        )
    try:
        return _parsed(document)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}; run `tb shard` again with another --out") from error


def _parsed(document: dict[str, object]) -> DatasetJson:
    """The content; raises TypeError or ValueError if an entry cannot be used.

    Entries that name files or are used in arithmetic are checked, because the file may be from a
    stranger. All others are only shown.
    """
    entries, classes, counts = document["shards"], document["classes"], document["counts"]
    if not isinstance(entries, list) or not isinstance(classes, list | tuple):
        raise TypeError("shards and classes must be lists")
    if not isinstance(counts, list) or not all(isinstance(name, str) for name in classes):
        raise TypeError("counts must be a list, and classes a list of names")
    shards = tuple(ShardFile(**entry) for entry in entries)
    for shard in shards:
        if not isinstance(shard.name, str) or not is_shard_name(shard.name):
            raise ValueError(f"{shard.name!r} is not the name of a shard")
        if not isinstance(shard.num_bytes, int) or not isinstance(shard.sha256, str):
            raise TypeError(f"{shard.name} must have a size and a SHA-256")
    for name in ("name", "digest", "manifest_sha256", "fingerprint"):
        if not isinstance(document[name], str):
            raise TypeError(f"{name} must be a text")
    if not re.fullmatch("[0-9a-f]{64}", str(document["digest"])):
        raise ValueError("digest is not a SHA-256")
    for name in ("num_videos", "num_sources", "num_skipped", "num_missing", "num_frames"):
        if not isinstance(document[name], int):
            raise TypeError(f"{name} must be a number")
    known = {field.name for field in fields(DatasetJson)}
    content = {name: value for name, value in document.items() if name in known}
    return DatasetJson(
        **{**content, "shards": shards, "classes": tuple(classes), "counts": tuple(counts)}  # type: ignore[arg-type]
    )
