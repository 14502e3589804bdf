"""`verify`: compares every byte of a folder of shards with its manifest."""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import av

from shards.counted import counted
from shards.decode.packet_decoder import out_of_memory
from shards.encode.check_stored import check_stored, find_packets
from shards.encode.picture_format import PictureFormat
from shards.encode.video_stream import VideoFaultError
from shards.errors import InputError
from shards.files.machine_errors import MachineError
from shards.files.store import Store, open_set
from shards.format.dataset_json import DATASET_NAME, DatasetJson, ShardFile, read_dataset_json
from shards.format.manifest import Manifest, content_digest, read_manifest
from shards.format.packet_index import PacketsFile, packets_name
from shards.format.packets import PacketsError
from shards.format.shard import (
    Member,
    index_name,
    index_text,
    is_shard_file,
    key_json,
    shard_files,
    shard_name,
)
from shards.format.skipped_jsonl import SKIPPED_NAME, read_skipped
from shards.format.video import Video
from shards.ingestion.journal import Journal
from shards.progress import Progress


def verify(
    root: Path | str, *, decode: bool = False, progress: Progress | None = None
) -> list[str]:
    """The problems that were found, one line each; empty if there are none.

    It compares the digest of the manifest, the size of every shard, the SHA-256 of every shard and
    of every video, the members of every shard as `tarfile` finds them, every KEY.json, the index
    for DALI, and the packet index. It compares how many videos were left out with skipped.jsonl.
    Remote shards are fetched again.

    Args:
        root: A finished folder of shards, or its URL. With @ and the beginning of a digest, it is
            an earlier state.
        decode: Also decode every video in full, count its frames, and compare the pixel format,
            colour matrix and colour range.
        progress: Called with (videos done, all videos, key).

    Raises:
        InputError: `root` is not a folder of shards.
        MachineError: This machine lacks space for the copies, open files or memory.
    """
    manifest = read_manifest(root)
    about = read_dataset_json(root)
    store, digest = open_set(root)
    problems = []
    if content_digest(manifest.name, manifest.classes, manifest.table) != manifest.digest:
        problems.append(f"{root}: the manifest's rows do not give its digest")
    by_shard: dict[str, dict[str, Video]] = {}
    for row in manifest.table.to_pylist():
        by_shard.setdefault(row["shard"], {})[row["key"]] = Video.from_row(row)
    problems += [f"{name}: not in the manifest" for name in _strays(store)]
    # The list belongs to the newest state, or to the one that an unfinished `--append` makes.
    if not digest and not _is_growing(store, len(about.shards)):
        problems += _left_out_problems(store, about)
    written = {shard.name: shard for shard in about.shards}
    num_done = 0
    for name, videos in sorted(by_shard.items()):
        for key, problem in _checked(manifest, written[name], videos, decode, store):
            if problem:
                problems.append(problem)
            else:
                num_done += 1
                if progress is not None:
                    progress(num_done, len(manifest), key)
    return problems


def _strays(store: Store) -> list[str]:
    """Files of shards that neither the newest state nor an unfinished `--append` has."""
    shards = read_dataset_json(store.name).shards
    known = {file for shard in shards for file in shard_files(shard.name)}
    if _is_growing(store, len(shards)):
        first_new = shard_name(len(shards)).removesuffix(".tar")
        known |= {name for name in store.names() if name >= first_new}
    return sorted({name for name in store.names() if is_shard_file(name)} - known)


def _is_growing(store: Store, num_shards: int) -> bool:
    """Whether an `--append` is not finished."""
    return Journal(store, num_shards).fingerprint() is not None


def _left_out_problems(store: Store, about: DatasetJson) -> Iterator[str]:
    """Checks that dataset.json counts as many videos left out as skipped.jsonl lists."""
    entries = read_skipped(store)
    num_missing = sum(not entry.key for entry in entries)
    for field, said, found in (
        ("num_skipped", about.num_skipped, len(entries) - num_missing),
        ("num_missing", about.num_missing, num_missing),
    ):
        if said != found:
            yield (
                f"{DATASET_NAME}: {field} is {said}, but {SKIPPED_NAME} lists {found}; run"
                " `tb shard` again with another --out"
            )


def _checked(
    manifest: Manifest, shard: ShardFile, videos: dict[str, Video], decode: bool, store: Store
) -> Iterator[tuple[str, str]]:
    """Yields (key or "", problem) for each problem, and (key, "") when done with a video."""
    name = shard.name
    try:
        # It is fetched again, because an earlier copy may be good and the remote file damaged.
        path = manifest.shard_path(name, fetch_again=True)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                yield "", f"{name}: not the bytes that were written (sha256 differs)"
            elif (size := file.tell()) != shard.num_bytes:
                yield "", f"{name}: has {size} bytes, not {shard.num_bytes} as {DATASET_NAME} says"
        for key, problem in _shard_problems(manifest, path, videos, decode, store):
            yield key, f"{key} in {name}: {problem}" if problem else ""
    except MachineError:  # the shards may be good
        raise
    except InputError as error:
        yield "", str(error)
    except (OSError, tarfile.TarError) as error:
        yield "", f"{name}: {getattr(error, 'strerror', None) or error}"


def _shard_problems(
    manifest: Manifest, path: Path, videos: dict[str, Video], decode: bool, store: Store
) -> Iterator[tuple[str, str]]:
    """Yields (key, problem), and (key, "") when done with a video."""
    seen: dict[str, set[str]] = {key: set() for key in videos}
    samples: dict[str, list[Member]] = {}
    for tar, member in _members(path):
        key, _, extension = member.name.partition(".")
        if key not in videos:
            yield key, "not in the manifest"
            continue
        if not member.isreg() or member.issparse() or member.size > path.stat().st_size:
            yield key, f"{member.name} is not a plain file"
            continue
        place = Member(name=member.name, offset=member.offset_data, size=member.size)
        samples.setdefault(key, []).append(place)
        file = tar.extractfile(member)
        data = file.read() if file else b""
        seen[key].add("json" if extension == "json" else "video")
        if extension == "json":
            if data != key_json(videos[key], manifest.classes):
                yield key, "KEY.json disagrees with the manifest"
            continue
        for problem in _video_problems(videos[key], place, data, decode):
            yield key, problem
        yield key, ""
    for key, parts in seen.items():
        for part in {"json", "video"} - parts:
            yield key, f"its {part} is missing"
    index = store.read(index_name(path.name))
    if index != index_text(list(samples.values())).encode():
        problem = "is missing" if index is None else "disagrees with the shard"
        yield index_name(path.name), f"{problem}; run `tb shard` again with another --out"
    yield from _packet_problems(manifest, path.name, list(videos.values()))


def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar from a stranger.

    Raises:
        tarfile.ReadError: Its headers cannot be read.
    """
    try:
        with tarfile.TarFile(path) as tar:
            for member in tar:
                yield tar, member
    # `tarfile` believes what a header says of the size of a name, and calls itself for each name.
    except (RecursionError, MemoryError, OverflowError, ValueError) as error:
        raise tarfile.ReadError(f"its headers cannot be read ({type(error).__name__})") from error


def _packet_problems(
    manifest: Manifest, name: str, videos: list[Video]
) -> Iterator[tuple[str, str]]:
    """Yields (key, problem) for each video whose row in the packet index is wrong.

    The key is the name of the packet index if it is unusable or has too few or too many rows.
    """
    advice = "run `tb shard` again with another --out"
    try:
        file = PacketsFile(manifest.packets_path(name, fetch_again=True))
    except (PacketsError, OSError) as error:
        problem = getattr(error, "strerror", None) or error
        yield packets_name(name), f"{problem}; {advice}"
        return
    if len(file) != len(videos):
        yield (
            packets_name(name),
            f"has {counted(len(file), 'row')} for {counted(len(videos), 'video')}; {advice}",
        )
    for place, video in enumerate(videos[: len(file)]):
        try:
            packets = file.row(place)
        except PacketsError as error:
            yield video.key, f"its packet index {error}"
            continue
        if not video.packets_sha256:
            if len(packets.sizes):
                yield video.key, "its row in the packet index must be empty"
        elif packets.sha256() != video.packets_sha256:
            yield video.key, "its row in the packet index is not the one that was written"


def _video_problems(video: Video, found: Member, data: bytes, decode: bool) -> Iterator[str]:
    place, expected = (found.offset, found.size), (video.offset, video.size)
    if place != expected:
        yield f"lies at (offset, size) {place}, not {expected}"
    if hashlib.sha256(data).hexdigest() != video.sha256:
        yield "the bytes are not those that were written (sha256 differs)"
        return
    is_indexed = bool(video.packets_sha256)
    checked, packets = None, None
    try:
        if decode:
            size = (video.height, video.width)
            checked = check_stored(data, video.num_frames, size, video.codec, is_indexed=is_indexed)
            packets = checked.packets
        elif is_indexed:
            packets = find_packets(data)
    except VideoFaultError as error:
        yield str(error)
        return
    except av.FFmpegError as error:
        if shortage := out_of_memory(error):
            raise shortage from error
        yield str(error)
        return
    if is_indexed and (packets is None or packets.sha256() != video.packets_sha256):
        yield "its packets do not lie where its packet index says"
    elif checked is not None:
        said = PictureFormat(
            pixel_format=video.pixel_format,
            color_matrix=video.color_matrix,
            color_range=video.color_range,
        )
        if checked.pictures != said:
            yield f"has {checked.pictures.text()}, not {said.text()}"
        if is_indexed and not checked.is_proven:
            yield "its GOPs do not decode by themselves to the same pictures"
