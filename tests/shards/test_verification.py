"""Any single change to a folder of shards is found and named."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.files.store import open_store
from shards.format.dataset_json import DATASET_NAME, read_dataset_json
from shards.format.manifest import (
    MANIFEST_NAME,
    Manifest,
    read_manifest,
    write_manifest,
)
from shards.format.shard import index_name
from shards.verification import verify


@pytest.fixture
def root(manifest: Manifest, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(manifest.root, tmp_path / "copy"))


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


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


def test_a_flipped_bit_in_a_video_names_the_video(manifest: Manifest, root: Path) -> None:
    for index in range(len(manifest)):
        video = manifest.video(index)
        _flip(root / video.shard, video.offset + video.size // 2)
        assert any(f"{video.key} in {video.shard}" in problem for problem in verify(root))
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
    (root / ".ingest").mkdir()
    write_manifest(open_store(root), videos, read_dataset_json(root))
    expected = f"{videos[2].key} in {videos[2].shard}: {problem}"
    assert expected in verify(root, decode=True)
    assert expected not in verify(root)
