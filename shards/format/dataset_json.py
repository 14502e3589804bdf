"""dataset.json: what a finished folder of shards holds, as a whole.

It is written last, so a folder that has one is complete.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.path_kinds import is_folder
from shards.files.size_limit import MAX_JSON_BYTES
from shards.files.store import Store, open_set
from shards.format.set_names import text_problem
from shards.format.shard import is_shard_name

DATASET_NAME = "dataset.json"
FORMAT_VERSION = 2
# How many characters of a digest are in file names.
_DIGEST_CHARS = 16
# The seed of an ingestion must be smaller. NumPy advises seeds of 128 bits.
SEED_LIMIT = 2**128


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
        counts: For each split number {membership: number of videos}, without empty ones.
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


def copies_name(content: DatasetJson) -> str:
    """A name for the copies of a data set: 32 hex digits that follow from the bytes of its files.

    The digest is not enough: a set from a stranger may claim the digest of another set.
    """
    files = [content.manifest_sha256, *(asdict(shard) for shard in content.shards)]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:32]


def write_dataset_json(store: Store, content: DatasetJson, name: str = DATASET_NAME) -> None:
    """Writes dataset.json: from then on the folder counts as finished."""
    document = {"format_version": FORMAT_VERSION, **asdict(content)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    store.put_bytes(name, text.encode())


def earlier_name(name: str, digest: str) -> str:
    """The name under which a file of an earlier state is kept: "dataset-0123456789abcdef.json".

    Args:
        name: `DATASET_NAME`, or the name of the manifest.
        digest: The digest of that state.
    """
    stem, _, extension = name.partition(".")
    return f"{stem}-{digest[:_DIGEST_CHARS]}.{extension}"


def read_dataset_json(root: Path | str) -> DatasetJson:
    """The content of dataset.json in a folder, or behind a URL.

    Args:
        root: The folder or URL. With @ and the beginning of a digest, it is the state of that
            digest, which `tb shard --append` has kept.

    Raises:
        InputError: There is none, it is unreadable, it has another format version, or there is not
            exactly one state of that digest.
    """
    store, digest = open_set(root)
    content = _read(store, DATASET_NAME)
    if content.digest.startswith(digest):
        return content
    states = {}
    for name in store.names():
        if match := re.fullmatch(rf"dataset-([0-9a-f]{{{_DIGEST_CHARS}}})\.json", name):
            states[match[1]] = name
    found = [name for known, name in states.items() if known.startswith(digest[:_DIGEST_CHARS])]
    if len(found) == 1:
        earlier = _read(store, found[0])
        if earlier.digest.startswith(digest):
            return earlier
    known = ", ".join([content.digest[:_DIGEST_CHARS], *states])
    raise InputError(f"{store.name}: has no state {digest}; choose one of {known}")


def state_name(root: Path | str, digest: str) -> str | None:
    """The name of a folder's state with this digest: "data/mine@1a2b3c4d5e6f7a8b".

    Args:
        root: The folder or URL, without @.
        digest: The whole digest.

    Returns:
        The name, or None where the folder has no such state.
    """
    name = f"{root}@{digest[:_DIGEST_CHARS]}"
    try:
        return name if read_dataset_json(name).digest == digest else None
    except InputError:
        return None


def _read(store: Store, name: str) -> DatasetJson:
    path = f"{store.name}/{name}"
    data = store.read(name, MAX_JSON_BYTES)  # room for 800,000 shards
    if data is None:
        if store.folder is not None and not is_folder(store.folder):
            raise InputError(f"{store.name}: no such folder; make shards with `tb shard`")
        raise InputError(
            f"{store.name}: not a shards folder, or `tb shard` has not finished: run it again"
        )
    try:
        document = json.loads(data)
        version = document.pop("format_version")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: unreadable ({error!r}); run `tb shard` again with another --out"
        ) from error
    if type(version) is not int or version != FORMAT_VERSION:  # 2.0 is equal to 2
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


def _parsed(document: dict[str, Any]) -> DatasetJson:
    """The content; raises TypeError or ValueError if an entry cannot be used.

    The file may be from a stranger. Every entry has its type, numbers are in their range, and texts
    can be printed and stored.
    """
    _check_text("name", document["name"])
    for name in ("digest", "manifest_sha256", "fingerprint"):
        _check_sha256(name, document[name])
    _check_numbers(document)
    classes = tuple(_list("classes", document["classes"]))
    for class_name in classes:
        _check_text("classes", class_name)
    if len(set(classes)) != len(classes):
        raise ValueError("classes must differ")
    for count in _list("counts", document["counts"]):
        for name, number in _object("counts", count).items():
            _check_text("counts", name)
            _check_count("counts", number)
    for name, text in _object("versions", document["versions"]).items():
        _check_text("versions", name)
        _check_text("versions", text)
    _check_recipe(_object("recipe", document["recipe"]))
    shards = _shards(_list("shards", document["shards"]))
    known = {field.name for field in fields(DatasetJson)}
    content = {name: value for name, value in document.items() if name in known}
    return DatasetJson(
        **{**content, "shards": shards, "classes": classes, "counts": tuple(document["counts"])}  # type: ignore[arg-type]
    )


def _check_numbers(document: dict[str, Any]) -> None:
    """Checks the numbers by themselves; `manifest_checks` compares them with the rows."""
    for name in ("num_videos", "num_sources", "num_skipped", "num_missing", "num_frames"):
        _check_count(name, document[name])
    _check_count("seed", document["seed"], SEED_LIMIT)
    # Each source is stored as a video, or skipped. A segment is a source of its own.
    if document["num_sources"] != document["num_videos"] + document["num_skipped"]:
        raise ValueError("num_sources must be the sum of num_videos and num_skipped")


def _check_recipe(recipe: dict[str, Any]) -> None:
    for name, value in recipe.items():
        _check_text("recipe", name)
        if isinstance(value, str):
            _check_text("recipe", value)
        elif not isinstance(value, int | float | None):
            raise TypeError("recipe must have texts and numbers")
        elif value is not None and not -(2**63) < value < 2**63:  # NaN is refused too
            raise ValueError("recipe must have numbers of at most 64 bits")


def _shards(entries: list[Any]) -> tuple[ShardFile, ...]:
    shards = tuple(ShardFile(**_object("shards", entry)) for entry in entries)
    for shard in shards:
        if not isinstance(shard.name, str) or not is_shard_name(shard.name):
            raise ValueError(f"shards: {str(shard.name)[:100]!r} is not the name of a shard")
        _check_count(f"shards: num_bytes of {shard.name}", shard.num_bytes)
        _check_sha256(f"shards: sha256 of {shard.name}", shard.sha256)
    if len({shard.name for shard in shards}) != len(shards):
        raise ValueError("shards must differ in their names")
    return shards


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text")
    if problem := text_problem(value):
        raise ValueError(f"{name} {problem}")


def _check_count(name: str, value: object, limit: int = 2**63) -> None:
    # `isinstance` would take True for a number.
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"{name} must be a whole number from 0 to below {limit}")


def _check_sha256(name: str, value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{name} must be a SHA-256 in hex")


def _list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list")
    return value


def _object(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must hold objects")
    return value
