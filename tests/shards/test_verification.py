"""Any single change to a folder of shards is found and named."""

import hashlib
import json
import random
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.format.dataset_json import DATASET_NAME, read_dataset_json
from shards.format.earlier_states import MANIFEST_NAME
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import PacketsFile, packets_file, packets_name
from shards.format.shard import index_name
from shards.verification import verify
from tests.shards.helpers import fault_of, rewritten


@pytest.fixture
def root(manifest: Manifest, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(manifest.root, tmp_path / "copy"))


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def _long_name(num_bytes: int) -> bytes:
    """The header of a GNU tar that says how long the next member's name is, and a block of it."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, num_bytes
    return header.tobuf(tarfile.USTAR_FORMAT) + b"x" * tarfile.BLOCKSIZE


def test_a_whole_folder_has_no_problems(manifest: Manifest) -> None:
    seen: list[tuple[int, int]] = []
    problems = verify(
        manifest.root, decode=True, progress=lambda done, total, key: seen.append((done, total))
    )
    assert problems == []
    assert seen == [(n, len(manifest)) for n in range(1, len(manifest) + 1)]


def test_a_flipped_bit_anywhere_in_a_shard_is_found(manifest: Manifest, root: Path) -> None:
    path = root / manifest.shard_names[0]
    size = path.stat().st_size
    for offset in [0, 200, 511, size - 1, *random.Random(0).sample(range(size), 30)]:
        _flip(path, offset)
        problems = verify(root)
        assert any(path.name in problem for problem in problems), offset
        _flip(path, offset)
    assert verify(root) == []


def test_a_size_that_is_wrong_is_found(root: Path) -> None:
    document = json.loads((root / DATASET_NAME).read_text())
    shard = document["shards"][0]
    size, shard["num_bytes"] = shard["num_bytes"], 2**40
    (root / DATASET_NAME).write_text(json.dumps(document))
    assert verify(root) == [
        f"{shard['name']}: has {size} bytes, not {2**40} as {DATASET_NAME} says"
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"".join(_long_name(1) for _ in range(3000)),  # each name leads to the next header
        _long_name(8**11 - 1),
        bytes(1024) + b"x" * 512,
    ],
)
def test_a_hostile_tar_is_a_problem_and_no_error(root: Path, content: bytes) -> None:
    path = root / "shard-000000.tar"
    content = content.ljust(path.stat().st_size, b"\0")
    path.write_bytes(content)
    document = json.loads((root / DATASET_NAME).read_text())
    document["shards"][0] |= {"sha256": hashlib.sha256(content).hexdigest()}
    document["shards"][0] |= {"num_bytes": len(content)}
    (root / DATASET_NAME).write_text(json.dumps(document))
    assert any(path.name in problem for problem in verify(root))


@pytest.mark.parametrize("content", ["[" * 10**6, '{"a":' * 10**6, "1" * 10**6])
def test_a_hostile_journal_is_one_line(root: Path, content: str) -> None:
    (root / ".ingest").mkdir()
    (root / ".ingest" / "settings.json").write_text(content)
    assert "settings.json: unreadable" in fault_of(verify, root)


def test_a_flipped_bit_in_a_video_names_the_video(manifest: Manifest, root: Path) -> None:
    for index in range(len(manifest)):
        video = manifest.video(index)
        _flip(root / video.shard, video.offset + video.size // 2)
        wanted = f"{video.key} in {video.shard}: the bytes are not those that were written"
        assert any(wanted in problem for problem in verify(root))
        _flip(root / video.shard, video.offset + video.size // 2)


def test_missing_cut_and_stray_shards_are_found(manifest: Manifest, root: Path) -> None:
    first, second = (root / name for name in manifest.shard_names[:2])
    first.unlink()
    second.write_bytes(second.read_bytes()[:2000])
    (root / "shard-000999.tar").write_bytes(b"")
    problems = "\n".join(verify(root))
    assert f"{first.name}: No such file" in problems
    assert f"{second.name}: " in problems
    assert "shard-000999.tar: not in the manifest" in problems


def test_a_changed_or_missing_index_is_found(manifest: Manifest, root: Path) -> None:
    first, second = (root / index_name(name) for name in manifest.shard_names[:2])
    first.write_text(first.read_text().replace("512", "513", 1))
    second.unlink()
    problems = "\n".join(verify(root))
    assert f"{first.name} in {manifest.shard_names[0]}: disagrees" in problems
    assert f"{second.name} in {manifest.shard_names[1]}: is missing" in problems


def test_a_missing_packet_index_is_found(manifest: Manifest, root: Path) -> None:
    name = packets_name(manifest.shard_names[0])
    (root / name).unlink()
    assert [problem for problem in verify(root) if name in problem] == verify(root)
    assert f"{name} in {manifest.shard_names[0]}: No such file" in verify(root)[0]


def test_the_packet_index_of_another_shard_is_found(manifest: Manifest, root: Path) -> None:
    first, second = manifest.shard_names[:2]
    shutil.copy(root / packets_name(second), root / packets_name(first))
    problems = verify(root)
    num_videos = manifest.table.column("shard").to_pylist().count(first)
    assert len(problems) == num_videos
    assert all(
        f" in {first}: its row in the packet index is not the one" in problem
        for problem in problems
    )


def test_every_wrong_row_of_a_packet_index_is_found(manifest: Manifest, root: Path) -> None:
    path = root / packets_name(manifest.shard_names[0])
    keys = [video.key for video in map(manifest.video, range(len(manifest)))]
    file = PacketsFile(path)
    rows = [file.row(place) for place in range(len(file))]
    rows[0] = replace(rows[0], first_byte=rows[0].first_byte + 1)
    rows[1] = replace(rows[1], extradata=b"other")
    path.write_bytes(packets_file([*rows, rows[0]]))
    problems = "\n".join(verify(root))
    assert f"{path.name} in {manifest.shard_names[0]}: has {len(rows) + 1} rows" in problems
    for key in keys[:2]:
        assert f"{key} in {manifest.shard_names[0]}: its row in the packet index is not" in problems
    path.write_bytes(packets_file(rows[:1]))
    assert f"has 1 row for {len(rows)} videos" in "\n".join(verify(root))


def test_too_long_a_row_of_a_packet_index_is_found(manifest: Manifest, root: Path) -> None:
    path = root / packets_name(manifest.shard_names[0])
    file = PacketsFile(path)
    rows = [file.row(place) for place in range(len(file))]
    rows[0] = replace(rows[0], extradata=bytes(2 << 20))
    path.write_bytes(packets_file(rows))
    where = f"{manifest.video(0).key} in {manifest.shard_names[0]}"
    assert verify(root) == [
        f"{where}: its packet index has too long a row for video 0 of the shard"
    ]


def test_a_row_for_a_video_without_a_packet_index_is_found(manifest: Manifest, root: Path) -> None:
    videos = [manifest.video(row) for row in range(len(manifest))]
    videos[0] = replace(videos[0], packets_sha256="")
    rewritten(root, read_dataset_json(root), videos)
    assert verify(root) == [
        f"{videos[0].key} in {videos[0].shard}: its row in the packet index must be empty"
    ]


def test_stray_indices_are_found(root: Path) -> None:
    for name in ("shard-000999.idx", "shard-000999.packets.arrow", "notes.idx"):
        (root / name).write_bytes(b"")
    assert verify(root) == [
        "shard-000999.idx: not in the manifest",
        "shard-000999.packets.arrow: not in the manifest",
    ]


@pytest.mark.parametrize("field", ["num_skipped", "num_missing"])
def test_videos_left_out_that_no_list_has_are_found(root: Path, field: str) -> None:
    document = json.loads((root / DATASET_NAME).read_text())
    document[field] = 2**40
    document["num_sources"] = document["num_videos"] + document["num_skipped"]
    (root / DATASET_NAME).write_text(json.dumps(document))
    assert verify(root) == [
        f"{DATASET_NAME}: {field} is {2**40}, but skipped.jsonl lists 0; run `tb shard` again with"
        " another --out"
    ]


def test_swapped_shards_are_found(manifest: Manifest, root: Path) -> None:
    first, second = (root / name for name in manifest.shard_names[:2])
    first.rename(root / "aside")
    second.rename(first)
    (root / "aside").rename(second)
    assert len(verify(root)) >= 4


@pytest.mark.parametrize("name", [MANIFEST_NAME, DATASET_NAME])
def test_a_changed_manifest_is_refused(root: Path, name: str) -> None:
    path = root / name
    data = path.read_bytes()
    path.write_bytes(data.replace(b"digest", b"digset", 1))
    with pytest.raises(InputError, match=f"{name}: .*run `tb shard` again"):
        read_manifest(root)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=f"{name}: .*run `tb shard` again"):
        read_manifest(root)


def test_another_folders_manifest_is_refused(root: Path) -> None:
    text = (root / DATASET_NAME).read_text()
    digest = read_manifest(root).digest
    (root / DATASET_NAME).write_text(text.replace(digest, "0" * 64))
    with pytest.raises(InputError, match="disagrees"):
        read_manifest(root)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None])
def test_what_is_no_shards_folder_is_refused(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "x")
    with pytest.raises(InputError, match="tb shard"):
        verify(tmp_path / "x")


@pytest.mark.parametrize(
    ("column", "wrong", "problem"),
    [
        ("pixel_format", "yuv444p", "has yuv420p bt601 limited, not yuv444p bt601 limited"),
        ("color_matrix", "bt709", "has yuv420p bt601 limited, not yuv420p bt709 limited"),
        ("color_range", "full", "has yuv420p bt601 limited, not yuv420p bt601 full"),
        ("num_frames", 21, "stored 21 frames, of which 20 decode"),
    ],
)
def test_decoding_finds_a_row_that_is_wrong(
    manifest: Manifest, root: Path, column: str, wrong: object, problem: str
) -> None:
    videos = [manifest.video(row) for row in range(len(manifest))]
    videos[2] = replace(videos[2], **{column: wrong})  # type: ignore[arg-type]
    rewritten(root, read_dataset_json(root), videos)
    expected = f"{videos[2].key} in {videos[2].shard}: {problem}"
    assert expected in verify(root, decode=True)
    assert expected not in verify(root)


def test_decoding_compares_the_groups_of_pictures_again(
    manifest: Manifest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = "its GOPs do not decode by themselves to the same pictures"
    assert not any(problem in text for text in verify(root, decode=True))
    # As with a decoder that gives other pictures than that of the ingestion.
    monkeypatch.setattr("shards.encode.check_stored.has_same_pictures", lambda *_: False)
    assert sum(problem in text for text in verify(root, decode=True)) == len(manifest)
