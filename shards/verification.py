"""Is a folder of shards what its manifest says? Reads every byte."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from shards.encode.probe import VideoFaultError
from shards.encode.transcode import Encoded, check_decodes
from shards.errors import InputError
from shards.files.store import Store, open_store
from shards.format.manifest import Manifest, content_digest, read_dataset_facts, read_manifest
from shards.format.shard import Member, index_name, index_text, is_shard_name
from shards.ingestion.collector import key_facts

Progress = Callable[[int, int, str], None]


def verify(
    root: Path | str, *, decode: bool = False, progress: Progress | None = None
) -> list[str]:
    """Problems found, one line each; empty if all is well.

    Compares the manifest's digest, every shard's SHA-256, its members as `tarfile` finds them,
    every video's own SHA-256 and KEY.json, and DALI's index. Remote shards are fetched anew.

    Args:
        root: a finished folder of shards, or its URL.
        decode: also decode every video in full and count its frames.
        progress: called with (videos done, videos in all, key).

    Raises:
        InputError: root is not a folder of shards at all.
    """
    manifest = read_manifest(root)
    store = open_store(root)
    problems = []
    if content_digest(manifest.name, manifest.classes, manifest.table) != manifest.digest:
        problems.append(f"{root}: the manifest's rows do not give its digest")
    by_shard: dict[str, dict[str, dict[str, Any]]] = {}
    for row in manifest.table.to_pylist():
        by_shard.setdefault(row["shard"], {})[row["key"]] = row
    strays = {name for name in store.names() if is_shard_name(name)} - set(by_shard)
    problems += [f"{name}: not in the manifest" for name in sorted(strays)]
    sha256_of = {shard["name"]: shard["sha256"] for shard in read_dataset_facts(root)["shards"]}
    num_done = 0
    for name, rows in sorted(by_shard.items()):
        try:
            # Not the copy here: what others will fetch is in question.
            path = manifest.shard_path(name, anew=True)
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256_of.get(name):
                    problems.append(f"{name}: not the bytes that were written (sha256 differs)")
            for key, problem in _shard_problems(manifest, path, rows, decode, store):
                if problem:
                    problems.append(f"{key} in {name}: {problem}")
                else:
                    num_done += 1
                    if progress:
                        progress(num_done, len(manifest), key)
        except InputError as error:
            problems.append(str(error))
        except (OSError, tarfile.TarError) as error:
            problems.append(f"{name}: {getattr(error, 'strerror', None) or error}")
    return problems


def _shard_problems(
    manifest: Manifest, path: Path, rows: dict[str, dict[str, Any]], decode: bool, store: Store
) -> Iterator[tuple[str, str]]:
    """Yields (key, problem), and (key, "") when done with a video."""
    seen: dict[str, set[str]] = {key: set() for key in rows}
    samples: dict[str, list[Member]] = {}
    with tarfile.TarFile(path) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            if key not in rows:
                yield key, "not in the manifest"
                continue
            place = Member(name=member.name, offset=member.offset_data, size=member.size)
            samples.setdefault(key, []).append(place)
            file = tar.extractfile(member)
            data = file.read() if file else b""
            seen[key].add("json" if extension == "json" else "video")
            if extension == "json":
                if data != key_facts(rows[key], manifest.classes):
                    yield key, "KEY.json disagrees with the manifest"
                continue
            for problem in _video_problems(rows[key], member, data, decode):
                yield key, problem
            yield key, ""
    for key, parts in seen.items():
        for part in {"json", "video"} - parts:
            yield key, f"its {part} is missing"
    index = store.read(index_name(path.name))
    if index != index_text(list(samples.values())).encode():
        problem = "is missing" if index is None else "disagrees with the shard"
        yield index_name(path.name), f"{problem}; make the shards anew"


def _video_problems(
    row: dict[str, Any], member: tarfile.TarInfo, data: bytes, decode: bool
) -> Iterator[str]:
    place = (member.offset_data, member.size)
    if place != (row["offset"], row["size"]):
        yield f"lies at (offset, size) {place}, not {(row['offset'], row['size'])}"
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        yield "the bytes are not those that were written (sha256 differs)"
    elif decode:
        encoded = Encoded(
            data=data,
            num_frames=row["num_frames"],
            fps=Fraction(row["fps_num"], row["fps_den"]),
            height=row["height"],
            width=row["width"],
            codec=row["codec"],
        )
        try:
            check_decodes(encoded)
        except (VideoFaultError, av.FFmpegError) as error:
            yield str(error)
